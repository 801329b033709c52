"""The settings of the data card: what a study must say about itself, because no file shows it."""

from pydantic import Field

from sono.curation.core.config import Config


class CardConfig(Config):
    """`[card]` of `sono.toml`: answers that only the people of a study can give; "": not stated."""

    title: str = ""
    description: str = ""
    version: str = "1.0.0"
    license: str = ""  # an SPDX name or a URL
    url: str = ""
    published: str = Field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")
    citation: str = ""
    authors: tuple[str, ...] = ()
    contact: str = ""
    purpose: str = ""
    funding: str = ""
    ethics: str = ""  # approval: committee and number
    consent: str = ""
    duo: str = Field("", pattern=r"^(DUO:\d{7})?$")  # terms of use in the Data Use Ontology
    period: str = ""  # of the examinations
    collection: str = ""  # how frames and patients were chosen
    labels: str = ""  # who named the planes, and how
    annotators: str = ""  # their training and experience
    annotation: str = ""  # the instructions for masks
    biases: str = ""
    limitations: str = ""
    uses: str = ""
    not_for: str = ""
    impact: str = ""
    maintenance: str = ""
