"""The shipped words against the published lists, written out by hand, and attributes of a user's own."""

from importlib.resources import files

import pytest
import yaml

from evenhand.attributes import attribute_names, load_attribute
from evenhand.errors import BadInputError, UnknownNameError


def listed(text: str) -> list[str]:
    return text.split()


# Jung et al. 2024 (SFID, arXiv 2410.07593), clipcap_utils; `mr` and `ms` from Jung et al. 2026 (ALA).
MASCULINE = listed(
    "man men male father gentleman gentlemen boy boys uncle husband actor prince waiter son he his him himself "
    "brother brothers guy guys emperor emperors dude dudes cowboy boyfriend chairman policeman policemen"
)
FEMININE = listed(
    "woman women female lady ladies mother girl girls aunt wife actress princess waitress daughter she her hers "
    "herself sister sisters queen queens pregnant girlfriend chairwoman policewoman policewomen"
)
NEUTRAL = listed(
    "person people parent parents child children spouse spouses server they their them theirs baby babies "
    "partner partners friend friends sibling siblings chairperson officer surfer kid kids"
)

AGE = """
name: age
groups: [young, middle, senior]
target: [0.2, 0.5, 0.3]
words:
  young: [teenager, Youth]
  middle: [adult]
  senior: [elder, pensioner]
neutral_words: [person]
"""
PAIRED = """
name: side
groups: [a, b]
words: {a: [left], b: [right]}
pairs:
  - {a: Port, b: starboard, neutral: [Side]}
  - {a: larboard, b: starboard, neutral: [side, board], one_way: a}
fixed: {b: [lee]}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "own.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.fixture(scope="module")
def gender():
    return load_attribute("gender")


@pytest.fixture(scope="module")
def raw():
    return yaml.safe_load(files("evenhand.attributes").joinpath("gender.yaml").read_text("utf-8"))


# The shipped words ----------------------------------------------------------------------------------


def test_gender_measures_with_the_published_words(gender):
    assert (len(MASCULINE), len(FEMININE), len(NEUTRAL)) == (31, 27, 26)
    assert gender.groups == ("male", "female")
    assert gender.target == (0.5, 0.5)
    assert sorted(gender.words["male"]) == sorted([*MASCULINE, "mr"])
    assert sorted(gender.words["female"]) == sorted([*FEMININE, "ms"])
    assert sorted(gender.neutral_words) == sorted(NEUTRAL)
    assert "2410.07593" in gender.source


def test_no_word_in_two_groups(gender):
    measured = [*gender.words["male"], *gender.words["female"], *gender.neutral_words]
    assert len(measured) == len(set(measured)) == 31 + 1 + 27 + 1 + 26
    steered = [*gender.steering_words["male"], *gender.steering_words["female"]]
    assert len(steered) == len(set(steered))
    assert not set(steered) & set(gender.neutral_words)


def test_every_word_measured_paired_or_fixed_is_steered(gender, raw):
    for group in gender.groups:
        paired = {pair[group] for pair in raw["pairs"]}
        assert set(gender.steering_words[group]) == {
            *gender.words[group],
            *paired,
            *raw["fixed"].get(group, []),
        }


def test_counterparts_go_both_ways_unless_declared_one_way(gender, raw):
    declared = set()
    for pair in raw["pairs"]:
        male, female, only = pair["male"], pair["female"], pair.get("one_way")
        if only in (None, "male"):
            declared.add((male, female))
        if only in (None, "female"):
            declared.add((female, male))
    # Each word gives way to one word only, so that the set is the mapping.
    assert dict(declared) == dict(gender.counterparts)
    assert len(declared) == len(gender.counterparts)


@pytest.mark.parametrize(
    ("word", "counterpart"),
    [
        *[("man", "woman"), ("woman", "man"), ("boy", "girl"), ("girl", "boy"), ("mr", "ms"), ("ms", "mr")],
        *[("guy", "girl"), ("dude", "girl"), ("guys", "girls")],  # and girl is boy, not guy
        *[("his", "her"), ("him", "her"), ("her", "his"), ("hers", "his")],
        *[("queen", "king"), ("king", "queen")],
    ],
)
def test_counterparts_by_hand(gender, word, counterpart):
    assert gender.counterparts[word] == counterpart


def test_words_without_a_counterpart_are_these(gender):
    steered = {word for words in gender.steering_words.values() for word in words}
    assert steered - set(gender.counterparts) == {"pregnant"}


def test_neutral_forms_by_hand(gender):
    forms = gender.neutral_forms
    assert forms["man"] == forms["woman"] == forms["guy"] == ("person",)
    assert forms["girl"] == ("person", "child", "kid")  # of guy, then of boy
    assert forms["her"] == ("their", "them")
    assert forms["his"] == ("their", "theirs")
    assert set(forms) <= {word for words in gender.steering_words.values() for word in words}
    gendered = set(gender.steering_words["male"]) | set(gender.steering_words["female"])
    assert not gendered & {form for listed in forms.values() for form in listed}


# Names ----------------------------------------------------------------------------------------------


def test_what_ships():
    assert "gender" in attribute_names()
    assert list(attribute_names()) == sorted(attribute_names())
    assert all(load_attribute(name).name == name for name in attribute_names())


def test_unknown_name_names_the_near_miss():
    with pytest.raises(UnknownNameError, match=r"no attribute named 'gendre'; known: gender.* Did you mean gender\?"):
        load_attribute("gendre")


@pytest.mark.parametrize("name", ["", "zzzz", "missing.yaml", ".", "../attributes/gender"])
def test_unknown_name_without_a_near_miss(name):
    with pytest.raises(UnknownNameError) as caught:
        load_attribute(name)
    assert "a path to a YAML file" in str(caught.value)


# A user's own ---------------------------------------------------------------------------------------


def test_three_groups_from_a_path(write):
    age = load_attribute(write(AGE))
    assert age.name == "age"
    assert age.groups == ("young", "middle", "senior")
    assert age.target == (0.2, 0.5, 0.3)
    assert age.words == {"young": ("teenager", "youth"), "middle": ("adult",), "senior": ("elder", "pensioner")}
    assert age.steering_words == age.words
    assert age.neutral_words == ("person",)
    assert age.counterparts == {}
    assert age.neutral_forms == {}


def test_target_is_even_unless_declared(write):
    text = AGE.replace("target: [0.2, 0.5, 0.3]\n", "")
    assert load_attribute(write(text)).target == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_source_is_the_file_unless_declared(write):
    path = write(AGE)
    assert load_attribute(path).source == path


def test_pairs_by_hand(write):
    side = load_attribute(write(PAIRED))
    assert side.words == {"a": ("left",), "b": ("right",)}  # pairs are steered, not measured
    assert side.steering_words == {"a": ("left", "port", "larboard"), "b": ("right", "starboard", "lee")}
    assert side.counterparts == {"port": "starboard", "starboard": "port", "larboard": "starboard"}
    assert side.neutral_forms == {"port": ("side",), "starboard": ("side", "board"), "larboard": ("side", "board")}


def test_a_fixed_word_never_gives_way_to_its_counterpart(write):
    side = load_attribute(write(PAIRED.replace("[lee]", "[lee, starboard]")))
    assert side.counterparts == {"port": "starboard", "larboard": "starboard"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("groups: [young, middle, senior]", "groups: [young, young, senior]", "groups"),
        ("groups: [young, middle, senior]", "groups: [young]", "at least two"),
        ("groups: [young, middle, senior]", "groups: young", "groups is 'young'; give a list"),
        ("groups: [young, middle, senior]", "groups: [young, middle, no]", "quotes"),
        ("groups: [young, middle, senior]", "groups:", "groups is None"),
        ("groups: [young, middle, senior]", "groups: [young, middle, neutral]", "rename the group"),
        ("groups: [young, middle, senior]", "groups: [young, middle, error]", "rename the group"),
        ("groups: [young, middle, senior]", "groups: [young, middle]", "words must map the groups"),
        ("name: age\n", "", "needs name, groups, words"),
        ("name: age", "name: scene", "other columns"),
        ("name: age", "name: 3", "name is 3"),
        ("name: age", "name: age\ncolour: red", "colour"),
        ("  middle: [adult]\n", "", "group 'middle' has no words"),
        ("  middle: [adult]", "  middle: []", "group 'middle' has no words"),
        ("  middle: [adult]", "  middle: adult", "words of 'middle' is 'adult'; give a list"),
        ("  middle: [adult]", "  middle: [no]", "in quotes"),
        ("  middle: [adult]", "  middle: ['middle aged']", "'middle aged' can never be found"),
        ("  middle: [adult]", "  middle: [40s]", "'40s' can never be found"),
        ("  middle: [adult]", "  middle: [Youth]", "'youth' is a word of 'young' and of 'middle'"),
        ("  middle: [adult]", "  old: [adult]", "words must map the groups"),
        ("neutral_words: [person]", "neutral_words: person", "neutral_words is 'person'"),
        ("neutral_words: [person]", "neutral_words: [any-one]", "'any-one' can never be found"),
        ("[0.2, 0.5, 0.3]", "[0.2, 0.5, 0.2]", "3 shares that sum to 1"),
        ("[0.2, 0.5, 0.3]", "[0.5, 0.5]", "3 shares that sum to 1"),
        ("[0.2, 0.5, 0.3]", "[-0.5, 1.0, 0.5]", "3 shares that sum to 1"),
        ("[0.2, 0.5, 0.3]", "[.nan, 0.5, 0.5]", "3 shares that sum to 1"),
        ("[0.2, 0.5, 0.3]", "[a, b, c]", "3 shares that sum to 1"),
        ("[0.2, 0.5, 0.3]", "1", "3 shares that sum to 1"),
        ("neutral_words: [person]", "pairs: [{young: youth, middle: adult}]", "both of two groups"),
        ("neutral_words: [person]", "fixed: {old: [elder]}", "fixed must map the groups"),
    ],
)
def test_refused_attributes_name_the_field(write, old, new, message):
    assert old in AGE
    with pytest.raises(BadInputError) as caught:
        load_attribute(write(AGE.replace(old, new)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("one_way: a", "one_way: c", "one_way is 'c'; allowed: a, b"),
        ("one_way: a", "oneway: a", "neutral, one_way"),
        ("neutral: [Side]", "neutral: Side", "give a list"),
        ("a: Port", "a: no", "quotes"),
        ("a: Port", "a: right", "'right' is a word of 'a' and of 'b'"),
        ("a: Port, ", "", "must name both"),
        ("fixed: {b: [lee]}", "fixed: {b: [left]}", "'left' is a word of 'a' and of 'b'"),
    ],
)
def test_refused_pairs(write, old, new, message):
    assert old in PAIRED
    with pytest.raises(BadInputError) as caught:
        load_attribute(write(PAIRED.replace(old, new)))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["pairs: 3", "pairs: [port]", "pairs: {a: b}"])
def test_pairs_that_are_no_list_of_mappings(write, text):
    with pytest.raises(BadInputError, match="pairs must be a list"):
        load_attribute(write(f"name: side\ngroups: [a, b]\nwords: {{a: [left], b: [right]}}\n{text}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is not YAML"),
        ("", "got NoneType"),
        ("gender", "got str"),
        ("[a, b]", "got list"),
        ("!!python/object/apply:os.system [id]", "is not YAML"),  # nothing is constructed
        (b"name: \xff\xfe", "cannot be read as UTF-8"),
    ],
)
def test_files_that_are_no_attribute(write, text, message):
    with pytest.raises(BadInputError, match=message):
        load_attribute(write(text))
