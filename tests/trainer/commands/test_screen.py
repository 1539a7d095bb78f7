"""What is printed of photos of something else: each kind apart, within 80 columns."""

from __future__ import annotations

from trainer.commands.screen import print_ood
from trainer.metrics.separation import TRADES


def test_each_kind_of_ood_photos_has_a_line_and_near_ones_what_the_export_found(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def row(auroc: float, rejected: float) -> dict:
        trade = {f"{share:g}": rejected + 0.95 - share for share in TRADES}
        return {"photos": 100, "auroc": auroc, "rejected": rejected, "accepted": 0.96, "trade": trade}

    print_ood({"near": row(0.758, 0.21), "far": row(0.994, 0.7)}, "test", {"auroc": 0.75, "rejected": 0.2})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-8:] == ["of", "80%", "of", "90%", "of", "95%", "of", "99%"]
    assert lines[1].split() == ["near", "100", "0.758", "21.0%", "36.0%", "26.0%", "21.0%", "17.0%"]
    assert lines[2].split()[:4] == ["far", "100", "0.994", "70.0%"]
    assert max(map(len, lines)) <= 80
    assert "96.0% of the test photos are accepted" in lines[3]
    assert lines[5] == "near, by classes that the score was kept from: AUROC 0.750, 20.0% rejected"
