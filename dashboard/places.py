"""The pages and their addresses, which are part of what people copy and keep: /run?job=…, /compare?jobs=…"""

from typing import Final

PLACES: Final = {
    "runs": ("Runs", ":material/view_list:"),
    "submit": ("New run", ":material/add_circle:"),
    "run": ("Run", ":material/show_chart:"),
    "compare": ("Compare", ":material/stacked_line_chart:"),
    "playground": ("Playground", ":material/chat:"),
    "sweeps": ("Sweeps", ":material/grid_on:"),
    "datasets": ("Data sets", ":material/database:"),
    "queue": ("Queue", ":material/hourglass_empty:"),
    "workers": ("Workers", ":material/dns:"),
    "team": ("Team", ":material/group:"),
}
"""Path -> title, icon, in the order of the navigation. The first is at `/`, too."""
