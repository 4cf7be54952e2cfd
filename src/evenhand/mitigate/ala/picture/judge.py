"""What any classifier of pictures says. In: a picture. Out: a claim from its shares, or none."""

from collections.abc import Callable, Mapping, Sequence

from PIL.Image import Image

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.picture.shares import check_certain, claim_from_shares
from evenhand.records import Attribute, Claim

__all__ = ["JudgeSignal"]


class JudgeSignal:
    """A classifier given as a callable.

    Args:
        judge: Gives a picture's share of each group, as a mapping from group names or in declared order; None
            abstains. It may be called from two threads at once.
        attribute: Its groups.
        name: Of the classifier, for the manifest: another name for another classifier.
        certain: The abstain band on the top share minus the runner-up, in [0, 1).
        sharpen: Give all of a claim to the top group.

    Raises:
        BadInputError: An option is out of its range.
    """

    def __init__(
        self,
        judge: Callable[[Image], Mapping[str, float] | Sequence[float] | None],
        attribute: Attribute,
        *,
        name: str,
        certain: float = 0.4,
        sharpen: bool = False,
    ) -> None:
        check_certain(certain, attribute)
        if not name:
            raise BadInputError("name: got an empty one; give the classifier a name that says which it is.")
        self._judge, self._groups, self._certain, self._sharpen = judge, attribute.groups, certain, sharpen
        self.settings: Mapping[str, object] = {"kind": "judge", "name": name, "certain": certain, "sharpen": sharpen}

    def claim(self, picture: Callable[[], Image]) -> Claim:
        """What the classifier says about one picture.

        Raises:
            BadInputError: It names other groups, or its shares are not finite, negative or not of sum 1.
        """
        said = self._judge(picture())
        if said is None:
            return Claim(None, "judge abstains")
        if isinstance(said, Mapping):
            if set(said) != set(self._groups):
                raise BadInputError(f"the judge names {sorted(said)}; allowed: {', '.join(self._groups)}.")
            said = [said[group] for group in self._groups]
        if len(said) != len(self._groups):
            raise BadInputError(f"the judge gave {len(said)} shares; allowed: {len(self._groups)}, one per group.")
        return claim_from_shares(said, certain=self._certain, sharpen=self._sharpen, reason="judge")
