"""The shipped words against the published lists, written out by hand, and attributes of a user's own."""

import json
from importlib.resources import files

import pytest
import yaml

from evenhand.attributes import attribute_from_settings, attribute_names, load_attribute, measuring_settings
from evenhand.errors import BadInputError, UnknownNameError
from evenhand.records import Guard


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
HUES = """
name: hue
groups: [red, green, blue]
words: {red: [scarlet], green: [olive], blue: [navy]}
pairs:
  - {red: Ruby, green: emerald, blue: sapphire, neutral: [gem]}
  - {red: crimson, blue: navy, one_way: red}
  - {red: ruby, green: jade}
lists:
  things: [Stone, stones]
guards:
  - {words: [ruby, emerald], after: [Tuesday], before: [old]}
  - {words: [olive], needs_after: things}
  - {words: [emerald, navy], after: things}
  - {words: [ruby], after: [slippers, tuesday]}
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
    other = {"male": "female", "female": "male"}
    group_of = {word: group for group in gender.groups for word in gender.steering_words[group]}
    assert {word: {other[group_of[word]]: gives} for word, gives in declared} == dict(gender.counterparts)
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
    assert list(gender.counterparts[word].values()) == [counterpart]


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
    with pytest.raises(UnknownNameError, match=r"no attribute named 'gendre'; known: .*gender.* Did you mean gender\?"):
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
    assert side.counterparts == {"port": {"b": "starboard"}, "starboard": {"a": "port"}, "larboard": {"b": "starboard"}}
    assert side.neutral_forms == {"port": ("side",), "starboard": ("side", "board"), "larboard": ("side", "board")}


def test_a_fixed_word_never_gives_way_to_its_counterpart(write):
    side = load_attribute(write(PAIRED.replace("[lee]", "[lee, starboard]")))
    assert side.counterparts == {"port": {"b": "starboard"}, "larboard": {"b": "starboard"}}


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
        ("neutral_words: [person]", "pairs: [{young: youth, neutral: [person]}]", "at least two of"),
        ("neutral_words: [person]", "pairs: [{young: youth, middle: adult, one_way: senior}]", "one_way is 'senior'"),
        ("neutral_words: [person]", "pairs: [{young: youth, middle: middle-aged}]", "'middle-aged' can never be found"),
        ("neutral_words: [person]", "one_sided: true", "it needs two"),
        ("neutral_words: [person]", "one_sided: 1", "one_sided is 1; allowed: true, false"),
        ("neutral_words: [person]", "fitted: yes please", "fitted is 'yes please'"),
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
        ("a: Port, ", "", "at least two of"),
        ("neutral: [Side]", "neutral: [other side]", "'other side' can never be found"),
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


# Groups that share a place -------------------------------------------------------------------------


def test_words_of_several_groups_stand_in_each_others_place(write):
    hues = load_attribute(write(HUES))
    assert hues.steering_words == {
        "red": ("scarlet", "ruby", "crimson"),
        "green": ("olive", "emerald", "jade"),
        "blue": ("navy", "sapphire"),
    }
    assert hues.counterparts == {
        "ruby": {"green": "emerald", "blue": "sapphire"},  # of the first pair that names a green word
        "emerald": {"red": "ruby", "blue": "sapphire"},
        "sapphire": {"red": "ruby", "green": "emerald"},
        "crimson": {"blue": "navy"},  # one way: navy keeps its place
        "jade": {"red": "ruby"},
    }
    assert hues.neutral_forms == {"ruby": ("gem",), "emerald": ("gem",), "sapphire": ("gem",)}


# Guards ---------------------------------------------------------------------------------------------


def test_guards_by_hand(write):
    assert load_attribute(write(HUES)).guards == (
        Guard("ruby", before=("old",), after=("tuesday", "slippers")),
        Guard("emerald", before=("old",), after=("tuesday", "stone", "stones")),
        Guard("olive", needs_after=("stone", "stones")),
        Guard("navy", after=("stone", "stones")),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("needs_after: things", "needs_after: thing", "'thing'; give a list of words, or the name of a list: things"),
        ("needs_after: things", "needs_after: []", "needs_after of a guard is empty"),
        ("needs_after: things", "needs_after: [two words]", "'two words' can never be found"),
        ("needs_after: things", "needs: things", "one or more of before, after, needs_after"),
        (", needs_after: things", "", "one or more of before, after, needs_after"),
        ("words: [olive]", "words: [oliv]", "guard of 'oliv', which is no word of a group"),
        ("words: [olive]", "words: olive", "words of a guard is 'olive'; give a list"),
        ("words: [olive]", "word: olive", "must have words"),
        ("after: [slippers, tuesday]", "after: [no]", "in quotes"),
        ("lists:\n  things: [Stone, stones]\n", "", "none is declared under lists"),
        ("  things: [Stone, stones]", "  things: stone", "list 'things' is 'stone'"),
        ("lists:\n  things: [Stone, stones]\n", "lists: [stone]\n", "lists must map names"),
    ],
)
def test_refused_guards(write, old, new, message):
    assert old in HUES
    with pytest.raises(BadInputError) as caught:
        load_attribute(write(HUES.replace(old, new)))
    assert message in str(caught.value)


def test_guards_that_are_no_list_of_mappings(write):
    with pytest.raises(BadInputError, match="guards must be a list"):
        load_attribute(write(AGE + "guards: {words: [elder]}"))


def test_guards_of_gender_by_hand(gender):
    guards = {guard.word: guard for guard in gender.guards}
    assert len(guards) == len(gender.guards)
    for word, after in [
        *[("chairman", "of"), ("king", "size"), ("king", "crab"), ("queen", "bee"), ("male", "connector")],
        *[("female", "lion"), ("mother", "nature"), ("cowboy", "hat"), ("guy", "wire"), ("sister", "ship")],
    ]:
        assert after in guards[word].after
    assert "gingerbread" in guards["man"].before
    assert not any(guard.needs_after for guard in gender.guards)
    assert not {"he", "she", "his", "her", "woman"} & set(guards)  # they mean one thing


def test_no_guard_takes_a_word_back_before_a_person():
    # A person right after a word is never another sense of it: "a male nurse", "a female actor".
    people = {"man", "woman", "person", "nurse", "doctor", "actor", "player", "student"}
    for name in attribute_names():
        assert not [guard for guard in load_attribute(name).guards if people & set(guard.after)]


# What else ships ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", attribute_names())
def test_stand_ins_of_what_ships_are_of_the_group_they_say(name):
    attribute = load_attribute(name)
    group_of = {word: group for group in attribute.groups for word in attribute.steering_words[group]}
    for word, others in attribute.counterparts.items():
        assert group_of[word] not in others
        assert all(group_of[other] == group for group, other in others.items())
    forms = {form for listed in attribute.neutral_forms.values() for form in listed}
    assert not forms & set(group_of)
    assert not set(attribute.neutral_words) & set(group_of)


def test_race_by_hand():
    race = load_attribute("race")
    assert race.groups == ("white", "black", "indian", "asian", "middle eastern", "latino")
    assert race.target == pytest.approx([1 / 6] * 6)
    counted = {word for words in race.words.values() for word in words}
    assert not counted & {"white", "black", "brown"}  # a white shirt is no person
    guards = {guard.word: guard for guard in race.guards}
    adjectives = ["white", "black", "caucasian", "african", "indian", "asian", "arab", "latino", "latina", "hispanic"]
    assert sorted(guards) == sorted(adjectives)
    for guard in guards.values():
        assert {"man", "women", "people", "american"} <= set(guard.needs_after)
        assert not {"dog", "shirt", "car", "hair"} & set(guard.needs_after)
    assert race.counterparts["black"] == {
        "white": "white",
        "indian": "indian",
        "asian": "asian",
        "latino": "hispanic",
    }
    assert not any("middle eastern" in others for others in race.counterparts.values())
    assert race.counterparts["arab"]["white"] == "white"
    assert "black" not in race.neutral_forms
    assert race.neutral_forms["asians"] == ("people",)


def test_age_by_hand():
    age = load_attribute("age")
    assert age.groups == ("young", "old")
    counted = {word for words in age.words.values() for word in words}
    assert not counted & {"young", "younger", "old", "older"}  # an old car is no person
    assert age.counterparts["young"] == {"old": "old"}
    assert age.counterparts["elderly"] == {"young": "young"}
    assert age.counterparts["senior"] == {"young": "young"}
    assert age.neutral_forms["old"] == ("adult",)
    guards = {guard.word: guard for guard in age.guards}
    assert {word for word, guard in guards.items() if guard.needs_after} == {"young", "younger", "old", "older"}
    assert "year" in guards["old"].before


def test_toxicity_holds_no_words():
    toxicity = load_attribute("toxicity")
    assert toxicity.groups == ("toxic", "civil")
    assert toxicity.target == (0.0, 1.0)
    assert toxicity.words == toxicity.steering_words == {"toxic": (), "civil": ()}


def test_one_sided_lets_the_second_group_alone_lack_words(write):
    text = "name: tone\ngroups: [rude, kind]\none_sided: true\n"
    tone = load_attribute(write(text + "words: {rude: [oaf]}"))
    assert tone.steering_words == {"rude": ("oaf",), "kind": ()}
    with pytest.raises(BadInputError, match="group 'rude' has no words"):
        load_attribute(write(text + "words: {kind: [dear]}"))


@pytest.mark.parametrize("name", attribute_names())
def test_a_manifest_gives_the_measuring_words_back(name):
    declared = load_attribute(name)
    settings = json.loads(json.dumps(measuring_settings(declared)))
    again = attribute_from_settings(settings)
    for field in ("name", "groups", "target", "words", "neutral_words", "source"):
        assert getattr(again, field) == getattr(declared, field)
    assert again.guards == ()


def test_guards_do_not_change_what_is_measured(write):
    text = "name: g\ngroups: [a, b]\nsource: x\nwords: {a: [king], b: [queen]}\n"
    plain, guarded = (
        load_attribute(write(text)),
        load_attribute(write(text + "guards: [{words: [king], after: [crab]}]")),
    )
    assert guarded.guards
    assert measuring_settings(plain) == measuring_settings(guarded)
    assert set(measuring_settings(plain)) == {"name", "groups", "target", "words", "neutral_words", "source"}
