"""The drawing of the state machine that is kept in the docs is what the code does."""

from tools.draw_states import TARGET, document


def test_the_drawing_is_up_to_date() -> None:
    assert TARGET.read_text(encoding="utf-8") == document(), "run `python -m tools.draw_states`"
