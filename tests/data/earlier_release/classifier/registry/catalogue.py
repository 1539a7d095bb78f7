"""What the reader takes from this module."""

import re

VERSION = re.compile(r"v[1-9][0-9]{0,8}")
