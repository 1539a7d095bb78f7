"""The page of one correction: its photo, and what production looked at for its own label and for the other."""

from __future__ import annotations

from pathlib import Path

from admin_cli.files import write_html
from admin_cli.measuring import load
from admin_cli.output import percent
from admin_cli.subjects import Subject
from classifier.pages import data_address, render
from classifier.traffic.corrections import Case

SIDE = 480
STYLE = (
    ":root{color-scheme:light dark}body{margin:0 auto;max-width:60rem;padding:1rem;font:1rem/1.5 system-ui,sans-serif}"
    "main{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:1rem}figure{margin:0}"
    "img{max-width:100%;height:auto;display:block}"
)


def write_page(path: Path, case: Case, content: bytes, subject: Subject) -> None:
    """Write the page, which needs nothing besides itself.

    Raises:
        InvalidRequest: the file cannot be written.
        InvalidImage: the photo cannot be read.
    """
    from classifier.photo import heatmap, preprocessing
    from classifier.serving.occlusion import explain

    spec = subject.manifest.input
    labels = subject.manifest.labels
    photo = preprocessing.decode(content, width=spec.width, height=spec.height)
    model, array = load(subject), photo.array(spec.width, spec.height, spec.resize)
    output = model.run(array)
    shown = photo.display(SIDE)
    region = photo.region(spec.width, spec.height, spec.resize)
    top = int(output.probabilities.argmax())
    pictures = [("the photo", _address(shown))]
    shadow = case.correction.shadow
    others = [each for each in (case.label, shadow.label if shadow else None) if each in labels]
    for index in dict.fromkeys([top, *(labels.index(each) for each in others)]):
        overlay = heatmap.overlay(shown, explain(model, array, output, index), region=region)
        said = f"{subject.name}: {labels[index]} {percent(float(output.probabilities[index]))}"
        pictures.append((said, _address(overlay)))
    wanted = f"{shadow.label}?" if shadow and case.is_open else case.label or "none of the labels"
    title = f"{case.correction.seen.label or 'a photo'} → {wanted}"
    page = render(Path(__file__).with_name("feedback_page.html"), title, styles=STYLE, case=case, pictures=pictures)
    write_html(path, page)


def _address(image: object) -> str:
    from classifier.photo import heatmap

    return data_address(heatmap.encode(image, "image/jpeg"))  # type: ignore[arg-type]
