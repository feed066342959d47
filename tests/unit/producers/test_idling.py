from producers.idling import GROWTH, PATIENCE, Idling


def test_pauses_grow_after_many_looks_for_nothing_and_no_longer_than_told() -> None:
    idling = Idling(0.5)

    assert [idling.pause_s() for _ in range(PATIENCE)] == [0.5] * PATIENCE
    assert [idling.pause_s() for _ in range(5)] == [1.0, 2.0, 4.0, 4.0, 4.0]
    assert 0.5 * GROWTH == 4.0


def test_work_makes_them_short_again() -> None:
    idling = Idling(1.0)
    for _ in range(PATIENCE + 2):
        idling.pause_s()

    idling.worked()

    assert [idling.pause_s() for _ in range(PATIENCE + 1)] == [1.0] * PATIENCE + [2.0]
