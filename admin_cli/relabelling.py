"""The command relabel-diff: what changed between two labellings, as a table and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from admin_cli.batch_program import events
from admin_cli.files import write_html
from admin_cli.options import JsonOption
from admin_cli.output import percent, print_json, print_table, print_text
from classifier.registry.catalogue import version_name
from classifier.wording import plural

SHOWN_CLASSES, SHOWN_MOVES = 20, 10


def relabel_diff(
    before: Annotated[str, typer.Argument(help="Such as v7.")],
    after: Annotated[str, typer.Argument(help="Such as v8.")],
    labels: Annotated[str, typer.Option("--labels", help="Where the labels are: the --out of label.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the photos that changed most.")] = None,
    photos: Annotated[int, typer.Option("--photos", help="How many of them.", min=1)] = 60,
    billing_project: Annotated[
        str, typer.Option("--billing-project", help="Who pays for reading a bucket whose requesters pay.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Show what changed between the labels of two versions.

    Only photos count whose bytes both have seen.

    Example: admin_cli relabel-diff v7 v8 --labels gs://labels/food --html changes.html
    """
    values = {
        "out": labels, "before": version_name(before), "after": version_name(after), "photos": photos,
        "pictures": html is not None, "billing_project": billing_project,
    }  # fmt: skip
    found = next(event for event in events("difference", values) if event["event"] == "difference")
    counts = ("shared", "changed", "unreadable", "other_bytes", "only_before", "only_after", "became_unknown",
              "became_known", "unknown_before", "unknown_after")  # fmt: skip
    found |= {name: found.get(name, 0) for name in counts}
    if html is not None:
        write_page(html, found)
    if as_json:
        print_json({name: value for name, value in found.items() if name != "event"} | {"photos": _bare(found)})
        return
    _print(found)
    if html is not None:
        print_text(f"wrote {html}: {plural(len(found['photos']), 'photo')} that changed most")


def write_page(path: Path, found: Mapping[str, Any]) -> None:
    """Write the page, which needs nothing besides itself.

    Raises:
        InvalidRequest: the file cannot be written.
    """
    from classifier.pages import render

    here = Path(__file__).parent
    styles = "".join((here / name).read_text(encoding="utf-8") for name in ("page.css", "relabel_page.css"))
    title = f"Labels of {found['before']} and {found['after']}"
    page = render(here / "relabel_page.html", title, styles=styles, found=found, percent=percent)
    write_html(path, page)


def _bare(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in photo.items() if name != "picture"} for photo in found["photos"]]


def _print(found: Mapping[str, Any]) -> None:
    before, after, shared = found["before"], found["after"], found["shared"]
    changed, *unknown = (percent(found[name] / shared) for name in ("changed", "unknown_before", "unknown_after"))
    print_text(
        f"{plural(shared, 'photo')} that both labelled: {found['changed']:,} ({changed}) have another label; "
        f"unknown {unknown[0]} before, {unknown[1]} after"
    )
    for count, said in (
        (found["became_unknown"], "became unknown"),
        (found["became_known"], "are unknown no more"),
        (found["unreadable"], "are unreadable to one of them"),
        (found["other_bytes"], "have other bytes now, and do not count"),
        (found["only_before"], f"were labelled by {before} alone"),
        (found["only_after"], f"were labelled by {after} alone"),
    ):
        if count:
            print_text(f"{count:,} {said}")
    moved = [each for each in found["classes"] if each["left"] or each["came"]]
    if moved:
        typer.echo("")
        print_table(
            ("label", before, after, "left", "came"),
            (
                (each["label"], *(f"{each[name]:,}" for name in ("before", "after", "left", "came")))
                for each in moved[:SHOWN_CLASSES]
            ),
            right=(before, after, "left", "came"),
        )
        typer.echo("")
        print_table(
            ("from", "to", "photos"),
            ((one, other, f"{count:,}") for one, other, count in found["moves"][:SHOWN_MOVES]),
            right=("photos",),
        )
    if len(moved) > SHOWN_CLASSES:
        print_text(f"and {plural(len(moved) - SHOWN_CLASSES, 'more label')} (--json has all)")
