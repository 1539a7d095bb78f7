"""The commands about corrections: list, show, accept, reject, export, forget."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from admin_cli.browser import show_page
from admin_cli.feedback_lines import SHOWN_ID, decision, line, note, plain, shadow_said, tell_damage
from admin_cli.feedback_ranking import known_labels, production, ranked_by_use
from admin_cli.feedback_table import write_accepted
from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    NEWEST,
    JsonOption,
    ModelOption,
    StoreOption,
    WhoOption,
    name_of,
    open_registry,
)
from admin_cli.output import NOTHING, minute, percent, print_json, print_rows, print_table, print_text
from classifier.errors import InvalidRequest, NotFound
from classifier.labels import folded
from classifier.registry import fields
from classifier.registry.rules import Registry
from classifier.traffic.corrections import Case, Decision, Verdict, given_label
from classifier.traffic.feedback import Feedback
from classifier.wording import nearest, plural

COPIES = ("*/{}.*", "runs/*.inputs/corrections/{}.*")
"""Where photos of corrections are exported, or handed to a training, under the working directory."""
IdsArgument = Annotated[list[str], typer.Argument(metavar="ID", help="Of corrections, or how it alone begins.")]
StatusOption = Annotated[str, typer.Option("--status", help="pending, accepted, rejected or all.")]
feedback = typer.Typer(help="Look through users' corrections, and decide about each.", rich_markup_mode=None)


@feedback.command("list")
def list_feedback(
    status: StatusOption = "pending",
    limit: Annotated[int, typer.Option("--limit", help="How many.", min=1)] = NEWEST,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """List corrections, those that help most first.

    Most helps where the model was wrong and sure of it; then where the shadow disagrees, where it was unsure, where a
    canary answered, classes of which it has few photos, and labels that it does not know. Those labels are counted at
    the end. A question mark is a photo about which production and the shadow disagree and nobody said anything.

    Example: admin_cli feedback list --status accepted
    """
    registry = open_registry(store, model)
    ranked = ranked_by_use(registry, _chosen(registry, status))
    if as_json:
        print_json([plain(each) for each in ranked])
        return
    if not ranked:
        print_text(f"no {'' if status == 'all' else status + ' '}correction")
        return
    print_rows(
        ("id", "date", "photo", "said -> right"),
        (line(each) for each in ranked[:limit]),
        notes=[note(each) for each in ranked[:limit]],
    )
    if len(ranked) > limit:
        print_text(f"the first {limit} of {len(ranked):,}; --limit shows more")
    known = set(production(registry).manifest.labels) if registry.channels(newest=0).production else set()
    candidates = Counter(each.case.label for each in ranked if each.case.label and each.case.label not in known)
    if candidates and known:
        typer.echo("")
        print_table(
            ("labels that the model does not know", "corrections"),
            ((label, f"{count:,}") for label, count in candidates.most_common()),
            right=("corrections",),
        )


@feedback.command("show")
def show(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Of the correction, or how it alone begins.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the photo and its overlays.")] = None,
    open_it: Annotated[
        bool, typer.Option("--open", help="Open that page in the browser; without --html it is a temporary file.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Show one correction, and with --open or --html its photo.

    The page has the photo, and what production looked at for its own label and for the user's.

    Example: admin_cli feedback show 6c1f9a3b --open
    """
    registry = open_registry(store, model)
    desk = Feedback(registry.store, model)
    case = desk.find(identity)
    (ranked,) = ranked_by_use(registry, [case])
    if open_it and html is None:
        html = (
            Path(tempfile.mkdtemp(prefix="pointer-")) / f"{case.correction.id[:SHOWN_ID]}.html"
        )  # for its owner alone
    if html is not None:
        photo = desk.photo(case)
        if photo is None:
            raise NotFound(f"Expected a photo with {case.correction.id}; its user gave none.")
        from admin_cli.feedback_page import write_page

        write_page(html, case, photo, production(registry))
        if open_it:
            show_page(html)
    if as_json:
        print_json(plain(ranked))
        return
    correction, seen = case.correction, case.correction.seen
    rows = {
        "id": correction.id,
        "time": f"{minute(correction.time)} UTC",
        "right label": "not known" if case.is_open else case.label or "none of the labels",
        "model said": f"{seen.label or NOTHING} {percent(seen.confidence)}".strip(),
        "version": " ".join(each for each in (seen.version, seen.channel, seen.status) if each) or NOTHING,
        **({"shadow said": shadow_said(correction.shadow)} if correction.shadow else {}),
        "photo": f"{correction.photo_bytes:,} bytes" if correction.photo_bytes else "not given",
        "SHA-256": correction.photo_sha256 or NOTHING,
        "request": correction.request_id or NOTHING,
        "decision": decision(case),
        "why first": ", ".join(ranked.reasons) or NOTHING,
    }
    print_table(("", ""), list(rows.items()))
    if html is not None:
        print_text(f"wrote {html}")


@feedback.command("accept")
def accept(
    identities: IdsArgument,
    label: Annotated[str | None, typer.Option("--label", help="The right label, where it is another.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Recorded.")] = "",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Accept corrections: the next training may learn from them.

    Example: admin_cli feedback accept 6c1f9a3b 0a41 --label paella
    """
    _decide(open_registry(store, model), identities, "accepted", label, reason, who, as_json)


@feedback.command("reject")
def reject(
    identities: IdsArgument,
    reason: Annotated[str, typer.Option("--reason", help="Recorded.")] = "",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Reject corrections: nothing learns from them.

    Example: admin_cli feedback reject 6c1f9a3b --reason "that is a pizza"
    """
    _decide(open_registry(store, model), identities, "rejected", None, reason, who, as_json)


@feedback.command("export")
def export(
    folder: Annotated[Path, typer.Argument(help="Where the photos and corrections.csv go.")],
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Write the accepted corrections as a table for a training.

    `trainer train --dataset csv` takes it as it is. All of them are for training: corrections never enter the test
    split.

    Example: admin_cli feedback export corrections
    """
    registry = open_registry(store, model)
    exported = write_accepted(registry, folder)
    tell_damage(exported.found)
    if as_json:
        print_json(
            {
                "table": str(folder / "corrections.csv"),
                "photos": exported.photos,
                "without_photo": exported.without_photo,
            }
        )
        return
    print_text(f"{plural(exported.photos, 'photo')} and {folder / 'corrections.csv'}")
    if exported.without_photo:
        print_text(
            f"not in it, for want of a photo or a label: {plural(exported.without_photo, 'accepted correction')}"
        )


@feedback.command("forget")
def forget(
    what: Annotated[str, typer.Argument(metavar="ID|SHA256", help="A correction's id, or a photo's SHA-256.")],
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Delete a correction, or all corrections of a photo.

    With the photo and what was decided, as a user may ask. Copies that were exported or handed to a training below
    this folder are named, and stay; others are not known. Versions that were trained with it are not changed;
    `admin_cli show` says which corrections a version has.

    Example: admin_cli feedback forget 6c1f9a3b
    """
    registry = open_registry(store, model)
    ids = Feedback(registry.store, model).forget(what.strip().lower())
    copies = sorted(str(path) for each in ids for place in COPIES for path in Path().glob(place.format(each)))
    if as_json:
        print_json({"forgotten": len(ids), "copies": copies})
    else:
        print_text(f"{plural(len(ids), 'correction')} forgotten")
        if copies:
            print_text(f"copies of the photo are left, delete them too: {', '.join(copies)}")


def _decide(
    registry: Registry,
    identities: Sequence[str],
    verdict: Verdict,
    label: str | None,
    reason: str,
    who: str,
    as_json: bool,
) -> None:
    right_label = None if label is None else given_label(label, "--label")
    desk = Feedback(registry.store, registry.model)
    cases = [desk.find(each.strip().lower()) for each in identities]  # a mistyped one before any is decided
    if verdict == "accepted" and right_label is None and (open_ := [case for case in cases if case.is_open]):
        raise InvalidRequest(
            f"Expected --label for {open_[0].correction.id[:SHOWN_ID]}: nobody said what it shows, two versions "
            "disagree about it."
        )
    known, _ = known_labels(registry)
    time, name = fields.now(), name_of(who)
    decided = []
    for case in cases:
        before = case.decision.label if case.decision and case.decision.verdict == "accepted" else None
        right = right_label or before
        if verdict == "accepted":
            right = _as_known(right or case.label, known) or right
        decided.append(desk.decide(case, Decision(verdict, name, time, right, reason)))
    if as_json:
        print_json([{"id": each.correction.id, "decision": vars(each.decision)} for each in decided])
        return
    for each in decided:
        print_text(f"{verdict} {each.correction.id[:SHOWN_ID]}: {each.label or 'none of the labels'}")
    useless = [each for each in decided if not (each.correction.photo_bytes and each.label)]
    if verdict == "accepted" and useless:
        names = ", ".join(each.correction.id[:SHOWN_ID] for each in useless)
        print_text(f"no training can learn from {names}: there is no photo, or no label")
    new = {each.label for each in decided if each.label and known and each.label not in known}
    for each_label in sorted(new) if verdict == "accepted" else []:
        close = nearest(each_label, sorted(known or ()))
        meant = f"; did you mean {close}? Accept it again with --label {close}" if close else ""
        print_text(f"{each_label} is a label that production does not know: it will be a new class{meant}")


def _as_known(label: str | None, known: set[str] | None) -> str | None:
    """Return a label as production writes it, where it differs in case, blanks, `_` or `-` alone; None otherwise."""
    alike = [each for each in known or () if label and each != label and folded(each) == folded(label)]
    return alike[0] if len(alike) == 1 and label not in (known or ()) else None


def _chosen(registry: Registry, status: str) -> list[Case]:
    wanted = ("pending", "accepted", "rejected", "all")
    if status not in wanted:
        raise InvalidRequest(f"Expected --status to be one of {', '.join(wanted)}; received {status!r}.")
    found = Feedback(registry.store, registry.model).found()
    if not found.cases:
        registry.expect_model()
    tell_damage(found)
    return [case for case in found.cases if status in ("all", case.status)]
