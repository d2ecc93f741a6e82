"""What a model's card says beyond what its run knows: licence, authors, what it is for."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from .base import Section

# The identifiers that the Hugging Face hub knows: https://huggingface.co/docs/hub/repositories-licenses
_LICENSES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
    other
"""
LICENSES = frozenset(_LICENSES.split())
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|code|multilingual")


def is_hub_name(name: str) -> bool:
    """Whether this may be the name of a repository on the Hugging Face hub: ``name`` or ``owner/name``."""
    return bool(_HUB_NAME.fullmatch(name))


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


Texts = Annotated[list[str], BeforeValidator(_several)]


class CardSpec(Section):
    """The model card: what its reader should know and the run cannot. Everything is optional."""

    license: str | None = Field(
        None, description="Licence of the model as the Hugging Face hub names it, such as mit, apache-2.0 or other."
    )
    license_name: str | None = Field(None, description="With license: other, the licence's own name.")
    license_link: str | None = Field(None, description="With license: other, where its text is: a URL or file.")
    language: Texts = Field(default_factory=list, description="Languages of texts, by code (BCP 47): en, de, zh-Hant.")
    tags: Texts = Field(default_factory=list, description="Words by which the model is found.")
    authors: Texts = Field(default_factory=list, description="Who made the model, or whom to ask about it.")
    description: str | None = Field(None, description="What the model is, in Markdown.")
    intended_use: str | None = Field(None, description="What it is for and what it is not for, in Markdown.")
    limits: Texts = Field(default_factory=list, description="Limits beside those that follow from the run; sentences.")
    data_name: str | None = Field(None, description="Name of the data, in words or of a dataset on the hub.")
    data_license: str | None = Field(None, description="Licence of the data, in words.")
    base_model: str | None = Field(
        None, description="The model it was fine-tuned from, on the hub (default: model.checkpoint where that is one)."
    )

    @field_validator("license")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in LICENSES:
            near = get_close_matches(name.lower(), sorted(LICENSES), n=3)
            hint = f"near: {', '.join(near)}; " if near else ""
            raise ValueError(
                f"{name!r} is not a licence that the Hugging Face hub knows; {hint}for others give license: other with "
                "license_name and license_link"
            )
        return name

    @field_validator("language")
    @classmethod
    def _codes(cls, languages: list[str]) -> list[str]:
        for language in languages:
            if not _LANGUAGE.fullmatch(language):
                raise ValueError(f"{language!r} is not the code of a language; give one such as en, de or zh-Hant")
        return languages

    @field_validator("base_model")
    @classmethod
    def _on_the_hub(cls, name: str | None) -> str | None:
        if name is not None and not is_hub_name(name):
            raise ValueError(f"{name!r} is not a name on the Hugging Face hub; give bert-base-cased, or owner/name")
        return name

    @field_validator("tags", "authors", "limits")
    @classmethod
    def _not_blank(cls, texts: list[str]) -> list[str]:
        if any(not text.strip() for text in texts):
            raise ValueError("an empty text says nothing; leave it out")
        return texts

    @field_validator("license_name", "license_link", "description", "intended_use", "data_name", "data_license")
    @classmethod
    def _says_something(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("an empty text says nothing; leave it out")
        return text

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.license == "other" and self.license_name is None:
            raise ValueError("license: other needs card.license_name, the licence's own name")
        if self.license != "other" and (self.license_name or self.license_link):
            raise ValueError(f"license_name and license_link belong to license: other, not to {self.license!r}")
        return self
