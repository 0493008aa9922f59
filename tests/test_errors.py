"""One sentence for any exception."""

from nnunetv2_sam2_3dmed.errors import DEBUG_VARIABLE, UserError, in_one_sentence


def test_users_mistakes_are_said_on_one_line():
    assert in_one_sentence(UserError("there is no file a:\n  give another.")) == "there is no file a: give another."


def test_others_are_named_by_their_type_and_traced_on_demand(monkeypatch, capsys):
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    error = ZeroDivisionError("division by zero")
    said = "ZeroDivisionError: division by zero (not foreseen; SAM2_3dMed_debug=1 in the environment shows where)."
    assert in_one_sentence(error) == said and capsys.readouterr().err == ""
    monkeypatch.setenv("SAM2_3dMed_debug", "1")
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as raised:
        assert in_one_sentence(raised) == said
    assert "1 / 0" in capsys.readouterr().err
