"""The model server's token: where it is stored, and how to read it."""

from __future__ import annotations

import json
from pathlib import Path

from moodlake.errors import UserError

Keys = Path | str | None
"""TorchServe's key_file.json, or the ARN of a secret; None if the server requires no token."""


class ServerError(UserError):
    """The model server is out of reach or rejects a request; the message says what to do."""


class ServerAway(ServerError):
    """The model server does not answer or is not ready; it may be later."""


def read_token(keys: Keys) -> str | None:
    """Read the current token.

    A secret in AWS Secrets Manager has the JSON of the file, or {"key": "..."}.

    Raises:
        ServerError: the token cannot be read.
    """
    if keys is None:
        return None
    try:
        content = json.loads(keys.read_text("utf-8") if isinstance(keys, Path) else _secret(keys))
        token = content.get("inference", content)["key"]
        if not isinstance(token, str) or not token:
            raise ValueError(f"its key is {token!r}, but must be a non-empty string")
        return token
    except (KeyError, AttributeError, TypeError) as error:
        raise ServerError(
            f"cannot read the server's token from {keys}: it holds neither "
            '{"inference": {"key": "..."}} nor {"key": "..."}'
        ) from error
    except (OSError, ValueError) as error:
        raise ServerError(
            f"cannot read the server's token from {keys}: {error}; set MOODLAKE_SERVER_KEYS to the "
            "key_file.json of a running server, or to the ARN of a secret"
        ) from error


def _secret(arn: str) -> str:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        # A new session: the default one keeps old credentials, and threads must not share it.
        session = boto3.session.Session()
        client = session.client("secretsmanager", region_name=arn.split(":")[3])
        return str(client.get_secret_value(SecretId=arn)["SecretString"])
    except (BotoCoreError, ClientError, IndexError) as error:
        raise ServerError(
            f"cannot read the server's token from {arn}: {error}; check the secret and the "
            "permission secretsmanager:GetSecretValue"
        ) from error
