"""Which offsets are still to be committed, and which may no longer be.

Offsets only ever go forward. A batch may be decided, or its commit fail, while the group gives its partition
to another member and back: that member may have come further, and an older offset committed over its newer
one would have all between read again. So an offset counts only where it lies behind the record that this
assignment began to read a partition with, which is where the group stood.
"""

from collections.abc import Collection, Mapping, Sequence

from aiokafka import ConsumerRebalanceListener
from aiokafka.structs import ConsumerRecord, TopicPartition


class OffsetsToCommit(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """The offsets of what is decided and not committed yet, of the partitions that are ours.

    The consumer tells it when they may be so no longer; then nothing of them is kept, for whoever has a
    partition next reads that again, without effect, and commits it.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._stood: dict[TopicPartition, int] = {}
        self._decided: dict[TopicPartition, int] = {}

    @property
    def left(self) -> Mapping[TopicPartition, int]:
        """What is to be committed: per partition the offset behind its last decided record."""
        return self._decided

    def fetched(self, records: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        """Note where reading began: there the group stood."""
        for partition, some in records.items():
            self._stood.setdefault(partition, some[0].offset)

    def decided(self, offsets: Mapping[TopicPartition, int]) -> None:
        """All records before these offsets are decided."""
        for partition, offset in offsets.items():
            stood = self._stood.get(partition)
            if stood is not None and offset > max(stood, self._decided.get(partition, 0)):
                self._decided[partition] = offset

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """These offsets have been committed."""
        for partition, offset in offsets.items():
            if partition in self._stood:
                self._stood[partition] = max(offset, self._stood[partition])
            if self._decided.get(partition) == offset:
                del self._decided[partition]

    def forget(self, partition: TopicPartition) -> None:
        """This partition is read from elsewhere."""
        self._stood.pop(partition, None)
        self._decided.pop(partition, None)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Every partition may be another's from now on, also one that is given back to us."""
        del revoked  # a member that was expelled is not told which
        self._stood.clear()
        self._decided.clear()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Wait for what is read of them."""
