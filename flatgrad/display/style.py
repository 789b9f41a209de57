"""The style sheet of all that notebooks show.

The colours follow the notebook's theme where it says which it is (JupyterLab, VS Code, Colab), else the system's. Each
card has a background of its own, so that it can be read on any page. What is marked as important would otherwise be
overridden by the notebooks' own styles of tables. Panes are sections that open and close. Browsers
that can style the content of `<details>` show them as tabs.
"""

from __future__ import annotations

#: Okabe and Ito's colours, which are distinct for people with any colour vision: on white, and on black.
_LIGHT = {
    "ink": "#1f2328", "soft": "#59636e", "paper": "#ffffff", "shade": "#f6f8fa", "line": "#d1d9e0",
    "blue": "#0072b2", "red": "#c04a00", "green": "#00795a", "violet": "#9a4f7f",
}  # fmt: skip
_DARK = {
    "ink": "#e6edf3", "soft": "#9da7b3", "paper": "#14181d", "shade": "#1d232a", "line": "#3d444d",
    "blue": "#56b4e9", "red": "#f0904a", "green": "#3fc79a", "violet": "#d99ac0",
}  # fmt: skip


def _variables(colours: dict[str, str]) -> str:
    return "; ".join(f"--flatgrad-{name}: {colour}" for name, colour in colours.items())


_LIGHT_THEMES = "[data-jp-theme-light=true] .flatgrad, .vscode-light .flatgrad, html[theme=light] .flatgrad"
_DARK_THEMES = "[data-jp-theme-light=false] .flatgrad, .vscode-dark .flatgrad, html[theme=dark] .flatgrad"

STYLE = f"""
.flatgrad {{ {_variables(_LIGHT)} }}
@media (prefers-color-scheme: dark) {{ .flatgrad {{ {_variables(_DARK)} }} }}
{_LIGHT_THEMES} {{ {_variables(_LIGHT)} }}
{_DARK_THEMES} {{ {_variables(_DARK)} }}
.flatgrad {{ box-sizing: border-box; display: inline-block; min-width: min(16em, 100%); max-width: 100%;
  margin: 2px 0; padding: 0.5em 0.9em 0.6em; border: 1px solid var(--flatgrad-line); border-radius: 6px;
  background: var(--flatgrad-paper); color: var(--flatgrad-ink);
  font: 13px/1.45 system-ui, sans-serif; text-align: left; }}
.flatgrad.wide {{ display: block; }}
.flatgrad p {{ margin: 0; }}
.flatgrad .note {{ margin: 0.15em 0 0; color: var(--flatgrad-soft); }}
.flatgrad table {{ margin: 0.45em 0 0; border: 0; border-collapse: collapse; color: inherit; font: inherit; }}
.flatgrad tr {{ background: none !important; }}
.flatgrad thead {{ border-bottom: 1px solid var(--flatgrad-line); }}
.flatgrad th, .flatgrad td {{ padding: 0.1em 1.1em 0.1em 0; border: 0; vertical-align: top;
  text-align: left !important; white-space: normal; max-width: 46em; }}
.flatgrad th {{ color: var(--flatgrad-soft); font-weight: normal; white-space: nowrap; }}
.flatgrad .number {{ text-align: right !important; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.flatgrad tr.total {{ border-top: 1px solid var(--flatgrad-line); }}
.flatgrad pre, .flatgrad code {{ font: 12px/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  color: inherit; background: none; }}
.flatgrad pre {{ margin: 0.45em 0 0; padding: 0.5em 0.8em; border: 0; border-radius: 4px; overflow: auto;
  max-height: 36em; background: var(--flatgrad-shade); white-space: pre; }}
.flatgrad .comment, .flatgrad .text {{ color: var(--flatgrad-soft); }}
.flatgrad .keyword {{ color: var(--flatgrad-violet); }}
.flatgrad .digits {{ color: var(--flatgrad-blue); }}
.flatgrad summary {{ cursor: pointer; color: var(--flatgrad-soft); padding: 0.2em 0; }}
.flatgrad details[open] > summary {{ color: var(--flatgrad-ink); }}
.flatgrad .panes {{ margin-top: 0.3em; }}
@supports selector(::details-content) {{
  .flatgrad .panes {{ display: flex; flex-wrap: wrap; column-gap: 1.3em; }}
  .flatgrad .panes > details {{ display: contents; }}
  .flatgrad .panes > details > summary {{ list-style: none; border-bottom: 2px solid transparent; }}
  .flatgrad .panes > details[open] > summary {{ border-color: var(--flatgrad-blue); pointer-events: none; }}
  .flatgrad .panes > details::details-content {{ order: 1; width: 100%; }}
  .flatgrad .panes > details:not([open])::details-content {{ display: none; }}
}}
.flatgrad svg {{ display: block; margin-top: 0.5em; max-width: 100%; height: auto; }}
.flatgrad svg text {{ font: 11px system-ui, sans-serif; fill: var(--flatgrad-soft); }}
.flatgrad svg .grid {{ stroke: var(--flatgrad-line); stroke-width: 1; }}
.flatgrad svg .blue {{ stroke: var(--flatgrad-blue); }}
.flatgrad svg .red {{ stroke: var(--flatgrad-red); }}
.flatgrad svg .green {{ stroke: var(--flatgrad-green); }}
.flatgrad svg .violet {{ stroke: var(--flatgrad-violet); }}
""".strip()

#: The colours as attributes, for places where style sheets are taken away.
PLAIN = _LIGHT
