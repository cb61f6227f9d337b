"""Draws depend on seed, stream, purpose and position, and on nothing else."""

from sweeps.training.streams import Purpose, Streams


def first_word(streams: Streams, stream: str, purpose: Purpose, *position: int) -> int:
    generator = getattr(streams, f"for_{stream}")(purpose, *position)
    return int(generator.bit_generator.random_raw())


def test_published_streams_stay() -> None:
    streams = Streams(topology=3, weights=3, data=3)
    drawn = [
        first_word(streams, stream, purpose, 7, 1)
        for stream in ("topology", "weights", "data")
        for purpose in (Purpose.FIRST_MASK, Purpose.ORDER)
    ]
    assert drawn == [
        0xCBD1170588A24C47, 0x2CA8B3556C4B6185, 0x972C930DB8256BD9,
        0x99746CED2624530A, 0x8F610E1771E87537, 0x513F6090041A3FE7,
    ]  # fmt: skip
    assert [purpose.value for purpose in Purpose] == list(range(len(Purpose)))


def test_equal_seeds_positions_and_purposes_give_unrelated_draws() -> None:
    drawn = [
        first_word(Streams(seed, seed, seed), stream, purpose, *position)
        for seed in range(4)
        for stream in ("topology", "weights", "data")
        for purpose in Purpose
        for position in [(), (0,), (1,), (0, 0), (0, 1), (1, 0)]
    ]
    assert len(set(drawn)) == len(drawn)
