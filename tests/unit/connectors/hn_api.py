"""A small Hacker News API on the local server."""

from __future__ import annotations

from tests.unit.connectors.helpers import NOW
from tests.unit.connectors.server import Answer, Server, page

TIME = int(NOW.timestamp()) - 3_600


def story(number: int, **more: object) -> dict[str, object]:
    return {
        "id": number, "type": "story", "by": "ann", "time": TIME, "title": f"Story {number}", "score": 1,
        "descendants": 0, "url": f"https://www.site{number}.example/x", **more,
    }  # fmt: skip


class Api:
    """Lists and items; what is put is served from then on."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.lists()

    def lists(
        self,
        new: list[object] | None = None,
        top: list[object] | None = None,
        best: list[object] | None = None,
        updates: list[int] | None = None,
        newest: int = 0,
    ) -> None:
        self.server.put("/newstories.json", page(new or []))
        self.server.put("/topstories.json", page(top or []))
        self.server.put("/beststories.json", page(best or []))
        self.server.put("/updates.json", page({"items": updates or [], "profiles": ["ann"]}))
        self.server.put("/maxitem.json", page(newest))

    def item(self, number: int, *answers: Answer, **more: object) -> None:
        self.server.put(f"/item/{number}.json", *(answers or (page(story(number, **more)),)))

    def asked(self, number: int) -> int:
        return self.server.count(f"/item/{number}.json")
