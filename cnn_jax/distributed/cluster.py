"""The processes that run one training together, on one host or many, by `jax.distributed`."""

import collections
import contextlib
import itertools
import os
import socket
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from cnn_jax.distributed.process_spec import ProcessSpec
from cnn_jax.distributed.watchdog import Watchdog
from cnn_jax.errors import UserError

_SLICE_MS = 500  # After which a process that waits looks at its signals.


class Cluster:
    """A process among others, or alone: then everything is the identity, and costs nothing.

    All processes make the same calls in the same order; each waits for the slowest one, however
    long that takes. The wait ends when another process ends: then this one does, see
    `cluster_watch`. As a context manager it leaves in good order, or tells the others why not.

    Attributes:
      index: of this process; 0 prints, and writes the files.
      count: of all of them.
    """

    def __init__(
        self, place: ProcessSpec | None = None, client: Any = None, heartbeat_seconds: float = 0
    ) -> None:
        """A process alone, unless `cluster_join.join` gives more.

        Args:
          place: of this process.
          client: of JAX's coordination service.
          heartbeat_seconds: see `Watch`.
        """
        self.index = place.index if place else 0
        self.count = place.count if place else 1
        self._client, self._round = client, 0
        self._agreed = False  # That all end.
        self._watch: Watchdog | None = None
        self._hosts = self._gather("join", socket.gethostname())
        if place:
            self._watch = Watchdog(client, place, self._hosts, heartbeat_seconds)

    @property
    def is_first(self) -> bool:
        """Whether this is process 0."""
        return self.index == 0

    def largest(self, value: int) -> int:
        """The largest of the processes' values."""
        return max(map(int, self._gather("largest", str(value))))

    def smallest(self, value: int) -> int:
        """The smallest of the processes' values."""
        return min(map(int, self._gather("smallest", str(value))))

    def agreed_signal(self, number: int | None) -> int | None:
        """A request to end that any process has got, if there is one.

        After that, the `Stopped` of each process is no failure that the others must hear of.

        Args:
          number: of the signal that this process has got, or None.
        """
        number = self.largest(number or 0) or None
        self._agreed |= number is not None
        return number

    def broadcast_from_first(self, text: str) -> str:
        """What process 0 says."""
        return self._gather("broadcast_from_first", text if self.is_first else "")[0]

    def check_same(self, what: str, text: str) -> None:
        """Makes sure that all processes say the same.

        Args:
          what: is said, such as "the config".
          text: that says it.

        Raises:
          UserError: in all processes, naming one that differs from most.
        """
        texts = self._gather(f"check_same {what}", text)
        (most, _), *others = collections.Counter(texts).most_common()
        if not others:
            return
        self._agreed = True
        odd, usual = texts.index(others[0][0]), texts.index(most)
        here, there = _where_they_differ(texts[odd], most)
        raise UserError(
            f"{what} of process {odd} on {self._hosts[odd]} is not that of process {usual} on "
            f"{self._hosts[usual]}: {here} is not {there}. Allowed is the same for all: start the "
            "same command with the same software everywhere; or, for runs that have nothing to do "
            "with each other, add --num_processes=1."
        )

    def barrier(self, name: str) -> None:
        """Waits until all processes are here."""
        self._gather(f"barrier {name}", "")

    @contextlib.contextmanager
    def first_then_others(self) -> Iterator[None]:
        """The body is run by process 0, and, when this has done it, by all others."""
        if not self.is_first:
            self.barrier("the first is done")
        yield
        if self.is_first:
            self.barrier("the first is done")

    def __enter__(self) -> Self:
        if self._watch:
            try:
                _connect_devices()
            except BaseException as error:
                self.__exit__(type(error), error, error.__traceback__)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watch is None:
            return
        if error is None or (self._agreed and isinstance(error, UserError | KeyboardInterrupt)):
            self._leave(self._watch)
            if error:  # Or JAX does it as Python ends.
                from jax import distributed

                distributed.shutdown()
            return
        if _is_lost_connection(error):
            self._watch.find_lost()
        is_told = isinstance(error, UserError | KeyboardInterrupt | BrokenPipeError)
        self._watch.announce_exit(str(error) if is_told else f"{type(error).__name__}: {error}")
        if not is_told:
            sys.excepthook(type(error), error, trace)
            sys.stderr.flush()
            os._exit(1)  # Python's own end would wait for the others.

    def _leave(self, watch: Watchdog) -> None:
        try:
            self.barrier("the end")
        except Exception as error:
            if _is_lost_connection(error):
                watch.find_lost()
            raise
        watch.stop()

    def _gather(self, kind: str, text: str) -> list[str]:
        """What all processes say, in their order.

        Args:
          kind: of the call, the same in all of them.
          text: that this one says.
        """
        if self._client is None:
            return [text]
        self._round += 1
        folder = f"cnn_jax/rounds/{self._round}"
        self._client.key_value_set(f"{folder}/said/{self.index}", f"{kind}\n{text}")
        if self._client.key_value_increment(f"{folder}/count", 1) == self.count:
            # All are here, so all have read what was said in the round before.
            self._client.key_value_delete(f"cnn_jax/rounds/{self._round - 1}")
            self._client.key_value_set(f"{folder}/complete", "yes")
        self._await(f"{folder}/complete")
        said = dict(self._client.key_value_dir_get(f"{folder}/said"))
        lines = [said[f"{folder}/said/{index}"].partition("\n") for index in range(self.count)]
        if any(line[0] != kind for line in lines):
            raise RuntimeError(f"the processes are not in step: {[line[0] for line in lines]}")
        return [line[2] for line in lines]

    def _await(self, key: str) -> None:
        while True:
            try:
                self._client.blocking_key_value_get(key, _SLICE_MS)
                return
            except RuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise


def _connect_devices() -> None:
    """Has XLA connect the processes while all of them are there.

    On CPUs it gives them 30 seconds, from whenever the first one has something to add up, for each
    set of devices: all of them, and, for Orbax, one of each process.

    Raises:
      UserError: if they cannot be connected.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.experimental import multihost_utils
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = np.array(jax.devices())
    mesh = Mesh(devices, ("all",))
    ones = jax.make_array_from_callback(
        devices.shape,
        NamedSharding(mesh, PartitionSpec("all")),
        lambda index: np.ones(devices.shape, np.float32)[index],
    )
    jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(ones).block_until_ready()
    multihost_utils.sync_global_devices("cnn_jax")


def _is_lost_connection(error: BaseException | None) -> bool:
    """Whether an exception, or what it comes from, may be the end of another process."""
    from jax.errors import JaxRuntimeError

    while error:
        text = str(error)
        if "Gloo" in text or (isinstance(error, JaxRuntimeError) and "EXHAUSTED" not in text):
            return True
        error = error.__cause__ or error.__context__
    return False


def _where_they_differ(one: str, other: str) -> tuple[str, str]:
    """The neighbourhood of the first difference."""
    pairs = enumerate(itertools.zip_longest(one, other))
    start = max(0, next(place for place, (here, there) in pairs if here != there) - 30)
    return one[start : start + 60], other[start : start + 60]
