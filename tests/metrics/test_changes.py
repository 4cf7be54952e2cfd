"""Word changes by hand."""

import pytest

from evenhand.errors import BadInputError
from evenhand.metrics.changes import count_changes, word_changes
from evenhand.records import Edit


def edit(start, end, drafted, emitted):
    return Edit(0, start, end, drafted, emitted, 0.9, 0.0, -1.0, 1.0)


def runs(before, after, *edits):
    return [(c.before, c.after, c.reached) for c in word_changes("p", before, after, edits)]


def test_same_words_do_not_change():
    assert runs("A man sits.", "A man  sits.") == []
    assert runs("", "") == []


def test_replaced_word_is_reached_where_its_token_was_changed():
    # "A woman sits.": the token " woman" is characters 1 to 8.
    assert runs("A man sits.", "A woman sits.", edit(1, 7, " man", " woman")) == [("man", "woman", True)]


def test_replaced_word_is_not_reached_by_other_edits():
    # An edit elsewhere (" sits", 7 to 12), an edit that changed nothing, and no edit at all.
    elsewhere, idle = edit(7, 12, " stands", " sits"), edit(1, 7, " woman", " woman")
    for edits in ((elsewhere,), (idle,), ()):
        assert runs("A man sits.", "A woman sits.", *edits) == [("man", "woman", False)]


def test_a_token_that_ends_where_the_word_starts_does_not_reach_it():
    # "A" is characters 0 to 1 and " " 1 to 2; "woman" starts at 2.
    assert runs("A man sits.", "A woman sits.", edit(0, 2, "The ", "A ")) == [("man", "woman", False)]


def test_one_piece_of_a_word_reaches_the_word():
    # "policewoman" at 2 to 13, its second piece "woman" at 8 to 13.
    found = runs("A policeman sits.", "A policewoman sits.", edit(8, 13, "man", "woman"))
    assert found == [("policeman", "policewoman", True)]


def test_every_word_of_a_run_must_be_reached():
    # "his" -> "their own": only "their" (6 to 11) was chosen by the mitigation.
    before, after = "takes his dog", "takes their own dog"
    assert runs(before, after, edit(5, 11, " his", " their")) == [("his", "their own", False)]
    both = (edit(5, 11, " his", " their"), edit(11, 15, " dog", " own"))
    assert runs(before, after, *both) == [("his", "their own", True)]


def test_insertion():
    assert runs("a dog", "a big dog", edit(1, 5, " dog", " big")) == [("", "big", True)]
    assert runs("a dog", "a big dog") == [("", "big", False)]


def test_deletion_is_reached_by_the_token_in_its_place_only():
    # "a tall man sits" -> "a man sits": the hole is between characters 1 and 2, where " man" starts.
    before, after = "a tall man sits", "a man sits"
    assert runs(before, after, edit(1, 5, " tall", " man")) == [("tall", "", True)]
    assert runs(before, after, edit(5, 10, " stands", " sits")) == [("tall", "", False)]
    assert runs(before, after, edit(0, 1, "the", "a")) == [("tall", "", False)]
    assert runs(before, after) == [("tall", "", False)]


def test_deletion_at_the_end_is_reached_by_an_end_of_text():
    assert runs("a man sits", "a man", edit(5, 5, " sits", "")) == [("sits", "", True)]
    assert runs("a man sits", "a man", edit(1, 5, " woman", " man")) == [("sits", "", False)]


def test_punctuation_is_a_word_and_apostrophes_are_not():
    assert runs("A man, alone.", "A man alone.") == [(",", "", False)]
    assert runs("the man's well-known dog", "the woman's well-known dog") == [("man's", "woman's", False)]


def test_two_runs_in_order():
    found = runs("A man and his dog", "A woman and her dog", edit(1, 7, " man", " woman"))
    assert found == [("man", "woman", True), ("his", "her", False)]


def test_edits_of_another_text_are_an_error():
    with pytest.raises(BadInputError, match="got characters 3 to 9, allowed: 0 to 5"):
        runs("a man", "a man", edit(3, 9, "x", "y"))


def test_count():
    # Three captions: two runs (one reached), none, one run not reached.
    pairs = [
        word_changes("p", "A man and his dog", "A woman and her dog", [edit(1, 7, " man", " woman")]),
        word_changes("q", "A dog", "A dog", []),
        word_changes("r", "A dog", "A cat", []),
    ]
    assert count_changes(pairs) == {
        "captions": 3,
        "captions_changed": 2,
        "changes": 3,
        "changes_reached": 1,
        "changes_elsewhere": 2,
    }
    assert count_changes([]) == dict.fromkeys(
        ("captions", "captions_changed", "changes", "changes_reached", "changes_elsewhere"), 0
    )
