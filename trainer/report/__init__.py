"""The report of a run: `material` gathers, `charts` and `mosaics` draw, `sections` tells, `page` lays it out."""
