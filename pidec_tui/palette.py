"""The palette's commands as plain text. Textual's own provider reads names as markup, and a job may be called "[/]"."""

from __future__ import annotations

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content


class PlainCommands(Provider):
    """What `App.get_system_commands` gives, in its order."""

    async def discover(self) -> Hits:
        for title, help_text, command, _ in self.app.get_system_commands(self.screen):
            yield DiscoveryHit(Content(title), command, text=title, help=help_text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, help_text, command, _ in self.app.get_system_commands(self.screen):
            score, places = matcher.fuzzy_search.match(query, title)
            if score > 0:
                shown = Content(title)
                for place in places:
                    shown = shown.stylize(matcher.match_style, place, place + 1)
                yield Hit(score, shown, command, text=title, help=help_text)
