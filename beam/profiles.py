"""Ready-made policies: one for each system whose place beam can take.

A profile is a value, and the only place that knows its name is this table; everything else asks the knobs.
``docs/profiles.md`` tells what each of them does.
"""

from collections.abc import Mapping
from math import inf
from typing import Any

from attrs import evolve, fields, frozen

from beam.policy import Keys, Naming, Policy, Reply, Rival

KNOBS = {each.name.replace("_", "-"): each for each in fields(Policy) if "parse" in each.metadata}


@frozen
class Profile:
    """A policy, and what comes with it.

    :param store: the store string, if the operator configures none.
    :param variables: of the environment, without ``BEAM_``, that mean the flag of that name.
    """

    policy: Policy
    store: str = "memory"
    variables: frozenset[str] = frozenset()


PROFILES: Mapping[str, Profile] = {
    "beam": Profile(Policy()),
    "hold": Profile(
        Policy(
            get_wait=0,
            put_wait=inf,
            exact=True,
            options=(),
            strict=False,
            landing=False,
            list_keys=True,
            words="hold",
        )
    ),
    "drop": Profile(
        Policy(
            keeps=True,
            options=(),
            strict=False,
            keys=Keys.TRIMMED,
            methods=("GET", "PUT"),
            any_part=True,
            naming=Naming.GIVEN,
            default_type=None,
            landing=False,
            words="drop",
            pages="none",
            plain_metrics=True,
        ),
        store="disk",
        variables=frozenset(
            {
                "LISTEN",
                "DATA_DIR",
                "MAX_DISK",
                "MAX_PIPE_SIZE",
                "PUT_TTL",
                "GET_TTL",
                "GET_WAIT_TIMEOUT",
                "ALLOW_FORWARD",
                "FORWARD_TIMEOUT",
                "METRICS_ADDR",
            }
        ),
    ),
    "piping": Profile(
        Policy(
            get_wait=inf,
            put_wait=inf,
            resume_timeout=0,
            idle_timeout=inf,
            exact=True,
            reply=Reply.EARLY,
            options=("n",),
            strict=False,
            keys=Keys.ANY,
            methods=("GET", "POST", "PUT", "OPTIONS"),
            parts=False,
            any_part=True,
            naming=Naming.VERBATIM,
            default_type=None,
            html_as_text=True,
            landing=False,
            cors=("*",),
            words="piping",
            pages="piping",
        )
    ),
    "claim": Profile(
        Policy(
            get_wait=0,
            exact=True,
            rival=Rival.REPLACES,
            claims=True,
            reply=Reply.BUFFERED,
            options=("download", "status", "stream"),
            strict=False,
            form_fields=True,
            words="claim",
        ),
        store="buffer=memory:window=1G:share=1",
        variables=frozenset({"AUTH", "LISTEN"}),
    ),
}


def files_policy(policy: Policy, largest: int | None) -> Policy:
    """That of the files API: ``policy`` as far as it is the operator's, for files that stay until they are deleted.

    :param largest: bytes of a file, if there is a limit.
    """
    return evolve(
        Policy(),
        **{name: getattr(policy, name) for name in OF_THE_OPERATOR},
        max_pipe_size=largest,
        put_ttl=inf,
        get_ttl=inf,
        get_wait=0,
        lasts=True,
        keeps=True,
        options=("name", "digest"),
        landing=False,
        words="files",
    )


def profile_of(text: str) -> Profile:
    """The profile that ``text`` begins with.

    :raises ValueError: there is no such profile.
    """
    name = text.partition(":")[0]
    if name not in PROFILES:
        raise ValueError(f"there is no profile {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]


OF_THE_OPERATOR = (
    *("resume_timeout", "upload_ttl", "idle_timeout", "min_rate", "bandwidth", "bandwidth_per_address"),
    *("allow_types", "deny_types", "list_keys", "auth"),
)


def policy_of(text: str, given: Mapping[str, Any]) -> Policy:
    """The policy that ``NAME:knob=value:...`` describes.

    :param given: fields that hold in every profile, unless ``text`` says otherwise.
    :raises ValueError: there is no such profile or knob, or the value is none.
    """
    changed: dict[str, Any] = dict(given)
    for each in text.split(":")[1:]:
        name, equals, value = each.partition("=")
        if not equals or name not in KNOBS:
            raise ValueError(f"{name!r} is no knob of a profile; there are {', '.join(KNOBS)}")
        try:
            changed[KNOBS[name].name] = KNOBS[name].metadata["parse"](value)
        except ValueError as error:
            raise ValueError(f"the knob {name}: {error}") from None
    return evolve(profile_of(text).policy, **changed)
