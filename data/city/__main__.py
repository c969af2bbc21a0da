"""The city process:  python -m data.city"""

from __future__ import annotations

from fastapi import FastAPI

from chassis.clock import Clock
from chassis.databases import open_database
from chassis.feed_store import FeedStore
from chassis.logs import write_logs
from chassis.service import listen
from chassis.tokens import Tokens
from contracts.problems import plain_words
from data.city.keeper import Keeper
from data.city.log import METADATA, IncidentLog
from data.city.reference import City
from data.city.service import city_app
from data.settings import Settings


def build(settings: Settings) -> FastAPI:
    """Wire the city."""
    engine = open_database(settings.database_url("city"), METADATA)
    feed = FeedStore(engine, "conditions")
    clock = Clock.load(settings.clock_file)
    keeper = Keeper(City(settings.city_seed), IncidentLog(engine), feed, clock, settings.clock_file)
    return city_app(keeper, Tokens(settings.tokens_file))


if __name__ == "__main__":
    with plain_words():
        settings = Settings()
        write_logs("city", settings.log)
        listen(build(settings), settings.bind, settings.city_port, "city")
