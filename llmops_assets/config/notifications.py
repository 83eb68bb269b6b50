"""The settings' `notifications`: who is told about which events, and how. Secrets stay in the environment."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from llmops_assets import catalog
from llmops_assets.config.part_names import NameOf
from llmops_assets.config.secrets import Address, FromEnvironment, refuse_credentials
from llmops_assets.domain.models import Strict, WrongAt
from llmops_assets.domain.notifications import KINDS, EventKind
from llmops_assets.domain.rollout import Duration

_NAME_IT = "put it into the environment and name the variable: {env: NAME}"


class NotificationTarget(Strict):
    """Someone, or another system, who is told about events."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,31}$", description="Its name in our messages, by which a project replaces it."
    )
    via: Annotated[str, NameOf(catalog.NOTIFIERS)] = Field(
        description="apprise: messages for people. cloudevents: events for programs."
    )
    to: Address = Field(
        description="For apprise one of its URLs; most contain a token, so {env: NAME} holds them, and only e-mail "
        "without a password (mailto://) and plain webhooks (json://, jsons://, xml://, xmls://, form://, forms://) are "
        "written here. For cloudevents an http or https URL, or {env: NAME}."
    )
    token: FromEnvironment | None = Field(
        default=None, description="For cloudevents: the variable of a token, sent as `Authorization: Bearer`."
    )
    events: tuple[EventKind, ...] = Field(
        default=KINDS,
        description="The events that it is told about. waiting: for a person's decision. returned: by the canary. An "
        "empty list: none.",
    )
    give_up_after: Duration = Field(
        default=86400.0,
        gt=0,
        description="Age at which a message that could not be delivered is dropped; one summary then names how many.",
    )

    @model_validator(mode="after")
    def _reveals_nothing(self) -> Self:
        part = catalog.NOTIFIERS[self.via]
        if self.token is not None and not part.token:
            raise WrongAt(f"{self.via} has its token in the URL that `to` names; leave this out", "token")
        if isinstance(self.to, FromEnvironment):
            return self
        try:
            refuse_credentials(self.to, _NAME_IT)
        except ValueError as error:
            raise WrongAt(str(error), "to") from None
        scheme, found, rest = self.to.partition("://")
        if not found or not rest:
            raise WrongAt(f"not a URL such as {part.example}", "to")
        if part.plain and scheme.lower() not in part.plain:
            raise WrongAt(
                f"{scheme}:// is not written here, because most of these addresses contain a token (without one: "
                f"{', '.join(f'{s}://' for s in part.plain)}); {_NAME_IT}",
                "to",
            )
        return self


def effective(
    own: tuple[NotificationTarget, ...], shared: tuple[NotificationTarget, ...]
) -> tuple[NotificationTarget, ...]:
    """A project's targets: those of all projects, each replaced by its own one of the same name, and its others."""
    named = {target.name: target for target in own}
    return (*(named.pop(target.name, target) for target in shared), *named.values())


def refuse_same_names(targets: tuple[NotificationTarget, ...]) -> tuple[NotificationTarget, ...]:
    """Raises ValueError if two targets have one name."""
    names = [target.name for target in targets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two targets are called {', '.join(twice)}; names must differ")
    return targets
