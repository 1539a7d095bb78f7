"""Whole buckets labelled with Apache Beam. May import `classifier`, and nothing of `trainer` or `admin_cli`."""
