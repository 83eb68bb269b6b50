"""Loads an engine of the catalog, and refuses one that lacks a part of the interface: it may be of another package."""

from llmops_assets.catalog import ENGINES
from llmops_assets.programs.engines.interface import EngineClient, ServingEngine
from llmops_assets.programs.runtime.errors import BadInput


def load_engine(name: str) -> ServingEngine:
    """The engine of this name.

    Raises:
        UnknownPart, UnavailablePart: there is none, or something that it needs is not installed.
        BadInput: it lacks a part of `ServingEngine`.
    """
    engine: ServingEngine = ENGINES[name].load()()
    _require(engine, ServingEngine, f"engine {name!r}")
    return engine


def client_of(engine: ServingEngine, name: str, base_url: str) -> EngineClient:
    """A client of the engine at this address.

    Raises:
        BadInput: it lacks a part of `EngineClient`.
    """
    client = engine.client(base_url)
    _require(client, EngineClient, f"the client of engine {name!r}")
    return client


def members(interface: type) -> tuple[str, ...]:
    """The public methods and attributes of an interface."""
    names = (*interface.__annotations__, *vars(interface))
    return tuple(dict.fromkeys(name for name in names if not name.startswith("_")))


def _require(part: object, interface: type, what: str) -> None:
    if lacking := [name for name in members(interface) if not hasattr(part, name)]:
        kind = type(part)
        raise BadInput(
            f"{what} ({kind.__module__}.{kind.__qualname__}) lacks {', '.join(lacking)}; its package must implement "
            f"{interface.__module__}.{interface.__name__}, see docs/contributing.md"
        )
