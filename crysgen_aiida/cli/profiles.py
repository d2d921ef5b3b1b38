"""Which AiiDA profile a command works on, and how it is opened."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from aiida.manage.configuration import Config

#: The profile that ``crysgen setup`` and ``crysgen quickstart`` make.
OWN_PROFILE = "crysgen"

_KEY = "crysgen_aiida.profile"
F = TypeVar("F", bound=Callable[..., Any])


def remember(ctx: click.Context, explicit: str | None) -> None:
    """Note the profile named with ``-p``, here or on ``verdi`` itself."""
    if explicit is None:
        root = ctx.find_root()
        source = root.get_parameter_source("profile")
        if root is not ctx and source is click.core.ParameterSource.COMMANDLINE:
            named = root.params.get("profile") or getattr(root.obj, "profile", None)
            explicit = getattr(named, "name", named)
    ctx.meta[_KEY] = explicit


def explicit_profile() -> str | None:
    """Return the profile named with ``-p`` on this command line, or None."""
    ctx = click.get_current_context(silent=True)
    return ctx.meta.get(_KEY) if ctx is not None else None


def choose(config: Config, explicit: str | None) -> tuple[str | None, str]:
    """Return the name of the profile to use and why.

    The order is ``-p``, then ``AIIDA_PROFILE``, then ``crysgen``, then the default profile. A name that was asked for
    is returned whether or not it exists; the other two only if they do.
    """
    if explicit:
        return explicit, "-p"
    if os.environ.get("AIIDA_PROFILE"):
        return os.environ["AIIDA_PROFILE"], "AIIDA_PROFILE"
    if OWN_PROFILE in config.profile_names:
        return OWN_PROFILE, f"profile {OWN_PROFILE} exists"
    if config.default_profile_name:
        return config.default_profile_name, "default profile"
    return None, "no profile exists"


def get_config() -> Config:
    """Return the AiiDA configuration, made if there is none."""
    import warnings

    from aiida.manage.configuration import get_config as aiida_config

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "Creating AiiDA configuration folder": not news to our users
        return aiida_config(create=True)


def chosen_profile(name: str | None = None) -> str:
    """Return the name of the profile for this command line (or ``name``), without loading it.

    :raises click.ClickException: if it does not exist; the message says how to make it.
    """
    config = get_config()
    chosen, why = (name, "given") if name else choose(config, explicit_profile())
    if chosen is None:
        raise click.ClickException("There is no AiiDA profile yet; run `crysgen setup` to make one.")
    if chosen not in config.profile_names:
        known = ", ".join(config.profile_names) or "none"
        raise click.ClickException(
            f"There is no profile {chosen!r} (asked for by {why}); profiles: {known}. "
            f"Run `crysgen -p {chosen} setup` to make it."
        )
    return str(chosen)


def open_profile(name: str | None = None) -> str:
    """Load the profile for this command line (or ``name``) and return its name.

    :raises click.ClickException: if it does not exist; the message says how to make it.
    """
    from aiida.manage.configuration import load_profile

    chosen = chosen_profile(name)
    load_profile(chosen, allow_switch=True)
    return chosen


def with_profile(function: F) -> F:
    """Decorate a command so that the profile is loaded before its body runs."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        open_profile()
        return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]
