"""What every section of the tree is."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from ltdd_ray.common.registry import Registry


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NamingSection(Section):
    """A section whose key ``naming_key`` takes a name of ``registry``.

    What is registered under that name is pickled with the section, so a Ray worker that receives
    the config knows it, too.
    """

    registry: ClassVar[Registry[Any]]
    naming_key: ClassVar[str]

    def __getstate__(self) -> dict[Any, Any]:
        registered = self.registry.get(getattr(self, self.naming_key))
        return {**super().__getstate__(), "registered": registered}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        registered = state.pop("registered")
        super().__setstate__(state)
        if registered is not None:
            self.registry.register(getattr(self, self.naming_key), registered)
