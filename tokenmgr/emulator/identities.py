"""The managed identities of the machine that the emulator stands for."""

from __future__ import annotations

import secrets
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["HOSTS", "Identities", "ManagedIdentity"]

#: What a machine can be, by what its endpoint is called.
HOSTS = ("app_service", "vm", "arc")


@dataclass(frozen=True)
class ManagedIdentity:
    """One managed identity, by its three names.

    Attributes:
        client_id: Its client id.
        object_id: Its object id, which is the ``oid`` and ``sub`` of its tokens.
        resource_id: Its resource id; empty for the system's own.
    """

    client_id: str
    object_id: str
    resource_id: str = ""

    def is_called(self, names: Mapping[str, str]) -> bool:
        """Whether each of these names, such as ``client_id``, is its own."""
        own = {
            "client_id": self.client_id,
            "object_id": self.object_id,
            "principal_id": self.object_id,
            "mi_res_id": self.resource_id,
            "msi_res_id": self.resource_id,
        }
        return all(text.lower() == own[name].lower() for name, text in names.items())


@dataclass
class Identities:
    """The machine's identities, and what shows that a program runs on it.

    Attributes:
        system: The system's own; None when it was taken away.
        header: What App Service's endpoint wants in ``X-IDENTITY-HEADER``.
        key_folder: Where Azure Arc's endpoint writes the files that it names; None while it cannot.
    """

    system: ManagedIdentity | None
    header: str = field(default_factory=lambda: secrets.token_hex(16))
    key_folder: Path | None = None
    _assigned: list[ManagedIdentity] = field(default_factory=list)
    _keys: dict[str, Path] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # guards the two before it

    def assign(self, identity: ManagedIdentity) -> None:
        """Let the machine have one more, which a user has made."""
        with self._lock:
            self._assigned.append(identity)

    def find(self, names: Mapping[str, str]) -> ManagedIdentity | None:
        """The identity that is called so; the system's own when it is not called anything."""
        if not names:
            return self.system
        with self._lock:
            every = [*self._assigned, *filter(None, [self.system])]
        return next((each for each in every if each.is_called(names)), None)

    def challenge(self) -> Path:
        """A new file, which whoever may read it shows the content of, once."""
        if self.key_folder is None:
            raise RuntimeError("the emulator is not running")
        key, path = secrets.token_hex(32), self.key_folder / f"{uuid.uuid4()}.key"
        path.touch(mode=0o600)
        path.write_text(key, encoding="ascii")
        with self._lock:
            self._keys[key] = path
        return path

    def is_answer(self, key: str) -> bool:
        """Whether this is the content of a file that was named, and not shown before."""
        with self._lock:
            path = self._keys.pop(key, None)
        if path is not None:
            path.unlink(missing_ok=True)
        return path is not None
