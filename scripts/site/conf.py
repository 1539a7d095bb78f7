"""How Sphinx makes the site of docs/, from what pages.py laid out. A page fetches nothing from elsewhere."""

project = "Pointer"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "Pointer"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["static"]
html_favicon = "../../functions/web/favicon.ico"
html_css_files = ["site.css"]
smartquotes = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0f6b5c", "color-brand-content": "#0f6b5c"},
    "dark_css_variables": {"color-brand-primary": "#5cc9b5", "color-brand-content": "#5cc9b5"},
}
highlight_language = "none"
# Examples have an ellipsis where code is left out, which no lexer knows.
suppress_warnings = ["misc.highlighting_failure"]
