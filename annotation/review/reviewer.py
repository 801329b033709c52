"""The name that a reviewer signs with."""

from sono.curation.core.errors import PrivacyError
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_texts


def check_reviewer(workspace: Workspace, reviewer: str) -> None:
    """Raise PrivacyError if the reviewer's name is a private string of the study."""
    try:
        check_texts(workspace, "--reviewer", [reviewer])
    except PrivacyError as error:
        if "--reviewer:" not in str(error):
            raise
        raise PrivacyError(
            "--reviewer: this name is a private string of the study, such as a patient's name; "
            "sign with another one, for example initials, or add it to public_words under [study] "
            "in sono.toml if it is not secret"
        ) from error
