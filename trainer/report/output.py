"""The report's own folder: what is written there, under which names, and the list of it that is published."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from trainer.report.document import Picture
from trainer.report.style import save
from trainer.run.files import write_file

PAGE, CARD, FIGURES, TABLES = "report.html", "model_card.md", "figures", "tables"


class Output:
    """Writes the report's files.

    Args:
        folder: where to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        """What was written, relative to the folder."""

    def chart(self, name: str, figure: Figure, caption: str, alternative: str) -> Picture:
        """Write a chart as PNG."""
        return self._picture(Path(FIGURES, f"{name}.png"), figure, caption, alternative)

    def photos(self, name: str, figure: Figure, caption: str, alternative: str) -> Picture:
        """Write a picture of photos as JPEG, which is a tenth of their PNG."""
        return self._picture(Path(FIGURES, f"{name}.jpg"), figure, caption, alternative)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table as CSV."""
        write_file(self._listed(Path(TABLES, f"{name}.csv")), lambda path: frame.to_csv(path, index=False))

    def text(self, name: str, text: str) -> None:
        """Write a text."""
        write_file(self._listed(Path(name)), lambda path: path.write_text(text, encoding="utf-8"))

    def remove_others(self) -> None:
        """Remove what an earlier report left in the folder that this one did not write."""
        own = {self.folder / file for file in self.files}
        for path in [*self.folder.glob(f"{FIGURES}/*"), *self.folder.glob(f"{TABLES}/*")]:
            if path not in own:
                path.unlink()

    def _picture(self, file: Path, figure: Figure, caption: str, alternative: str) -> Picture:
        save(figure, self._listed(file))
        return Picture(file, caption, alternative)

    def _listed(self, file: Path) -> Path:
        self.files.append(file)
        return self.folder / file
