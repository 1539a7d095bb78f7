"""Fixtures of the tests of the try-it page."""

from tests.support.page import browser, page, page_store, red, server  # noqa: F401  # fixtures
