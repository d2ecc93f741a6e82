"""How object storage is reached; who may reach it is told by the environment or a mounted secret, never here."""

from __future__ import annotations

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from .base import Section

_CREDENTIAL = re.compile(r"secret|token|password|(^|_)key|(^|_)user|credentials$", re.IGNORECASE)


class StorageSpec(Section):
    """One setting for everything in the run that reads or writes ``s3://``. Left out, the AWS variables serve."""

    endpoint: str | None = Field(
        None, description="URL of the S3 server, e.g. http://minio:9000. Default: AWS_ENDPOINT_URL, else Amazon's."
    )
    region: str | None = Field(None, description="Region. Default: AWS_REGION, or the profile's.")
    profile: str | None = Field(None, description="Profile of the AWS configuration files. Default: AWS_PROFILE.")
    credentials_file: str | None = Field(
        None,
        description="Mounted secret in the form of ~/.aws/credentials, at the same path on every node; it goes before "
        "the environment's keys.",
    )
    anonymous: bool = Field(False, description="Send no credentials, for public buckets.")
    addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Whether the bucket is in the path or in the host name; most own servers want path."
    )

    @model_validator(mode="before")
    @classmethod
    def _no_keys(cls, values: Any) -> Any:
        """Refused before the library says that a key is unknown, because its words would show the value."""
        if isinstance(values, dict):
            for name in values:
                if name not in cls.model_fields and _CREDENTIAL.search(str(name)):
                    raise ValueError(
                        f"storage.{name} cannot be set: credentials have no place in a configuration, which is stored "
                        "with the run; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or mount a "
                        "secret and name its path in storage.credentials_file"
                    )
        return values

    @field_validator("endpoint")
    @classmethod
    def _plain_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if "@" in parts.netloc:
            raise ValueError(
                "storage.endpoint holds credentials before the '@'; leave them out, and set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY in the environment"
            )
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"storage.endpoint must be an address such as https://host:9000, got {value!r}")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.anonymous and (self.profile or self.credentials_file):
            raise ValueError("storage.anonymous sends no credentials; leave out storage.profile and credentials_file")
        return self
