"""One bare Debian 12 box on its way to a proved state, shared by the files that need it before or after that way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import yaml

from tests.integration.conftest import Answer, Target, provision
from tests.standins.hub import Hub

ROLES = ["base", "docker", "uv", "python_ml", "model_cache"]

# What a login, sudo and a running system write by themselves while nothing is done to it.
OWN_LIFE = ("/var/log", "/var/cache/apt", "/var/lib/sudo", "/var/lib/systemd", "/var/lib/private", "/root/.ansible",
            "/home/admin/.ansible", "/etc/resolv.conf", "/etc/hosts", "/tmp", "/var/tmp")  # fmt: skip


class WholeBox:
    """The box and what was told on its way. Whatever asks for a later station makes it pass all earlier ones first."""

    def __init__(self, target: Target, tier: Path) -> None:
        self.target = target
        self.tier = tier

    @cached_property
    def planned(self) -> Answer:
        """The plan of the budget tier on the bare box."""
        return provision("plan", "--tier", "budget", *self.target.options(), "--output", "json", home=self.target.home)

    @cached_property
    def without_a_word(self) -> Answer:
        """An apply to the bare box, which is below its tier, without saying that this is accepted."""
        return provision("apply", "--yes", "--tier", "budget", *self.target.options(), home=self.target.home)

    @cached_property
    def foretold(self) -> Answer:
        """What check mode says of the bare box."""
        self.target.sh("touch /tmp/reference")
        return self.apply("--check")

    @cached_property
    def written(self) -> list[str]:
        """The files that check mode wrote on the bare box."""
        assert self.foretold
        found = self.target.sh("find / -xdev -newer /tmp/reference -not -type d").splitlines()
        return [path for path in found if not path.startswith(OWN_LIFE)]

    @cached_property
    def applied(self) -> Answer:
        """The apply that takes it to its proved state."""
        assert (self.planned, self.without_a_word, self.written) is not None
        return self.apply()

    @property
    def proved(self) -> Target:
        """The box as declared."""
        assert self.applied.code == 0, self.applied.out[-4000:] + self.applied.err[-4000:]
        return self.target

    def apply(self, *words: str) -> Answer:
        return self.target.apply(*words, tier=self.tier)

    def verify(self, *words: str) -> Answer:
        return self.target.verify(*words, tier=self.tier)


@contextmanager
def whole_box(target: Target, folder: Path) -> Iterator[WholeBox]:
    """The box with the budget tier and one declared model: the control of an altered model needs one to alter."""
    with Hub(target.sh("ip -4 route show default").split()[2]) as hub:
        model = hub.add("acme/tiny", {"weights.bin": bytes(range(256)) * 100, "config.json": b"{}\n"})
        settings = {"model_cache_models": [model.manifest()], "model_cache_endpoint": hub.endpoint}
        tier = folder / "declared.yml"
        tier.write_text(yaml.safe_dump({"extends": "budget", "settings": settings}), encoding="utf-8")
        yield WholeBox(target, tier)
