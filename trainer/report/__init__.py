"""What a run has to show: `material` gathers, `charts` and `mosaics` draw, `document` tells, `page` lays it out."""
