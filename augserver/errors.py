"""The error tree, as the server's packages import it; `augclient.errors` draws it."""

from augclient.errors import (
    AugError,
    AuthError,
    BackendError,
    BudgetError,
    ConfigError,
    DeadlineError,
    GeometryError,
    NotFoundError,
    PatchError,
    RecipeError,
    RequestError,
    StateError,
    StoreError,
    UnavailableError,
    VolumeError,
    WireError,
)

__all__ = [
    "AugError",
    "AuthError",
    "BackendError",
    "BudgetError",
    "ConfigError",
    "DeadlineError",
    "GeometryError",
    "NotFoundError",
    "PatchError",
    "RecipeError",
    "RequestError",
    "StateError",
    "StoreError",
    "UnavailableError",
    "VolumeError",
    "WireError",
]
