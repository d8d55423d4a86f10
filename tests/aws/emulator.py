"""AWS on this machine: ministack, which enforces permissions and uses TLS, as AWS does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import trustme

from infra.local.ports import HOST
from infra.local.process import terminate
from infra.local.service import BIN, NotReady, Service

PROGRAM = BIN.parent / "emulator" / "bin" / "ministack"
ACCOUNT = "123456789012"
REGION = "us-east-1"


class Emulator(Service):
    """An emulator with a new account.

    Args:
        folder: for certificates and logs.
        port: port to listen on.
    """

    name = "AWS"

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder)
        self.url = f"https://{HOST}:{port}"
        self._port = port
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        self._issued = authority.issue_cert(HOST, "localhost")
        self._authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self._authority))

    def start(self) -> None:
        chain, key = self.folder / "chain.pem", self.folder / "key.pem"
        chain.write_bytes(b"".join(pem.bytes() for pem in self._issued.cert_chain_pems))
        self._issued.private_key_pem.write_to_path(str(key))
        options = {
            "AUTH": "true",
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(self._port),
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_SSL_CERT": str(chain),
            "MINISTACK_SSL_KEY": str(key),
            "SFTP_ENABLED": "0",
            "USE_SSL": "1",
        }
        self.spawn("aws", [str(PROGRAM)], options)

    def stop(self) -> None:
        # It takes seconds to end by itself, and nothing that it holds is needed afterwards.
        terminate([child.mark for child in self.children.values()], grace=0)
        self.children.clear()

    def check(self) -> str:
        try:
            self.client("sts").get_caller_identity()
        except Exception as error:
            raise NotReady(str(error)) from error
        return "it answers"

    def environment(
        self, key: str = "test", secret: str = "test", token: str = ""
    ) -> dict[str, str]:
        """Return the environment variables of clients, by default those of the root user."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            **({"AWS_SESSION_TOKEN": token} if token else {}),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CA_BUNDLE": str(self._authority),
            "SSL_CERT_FILE": str(self._authority),
        }

    def client(self, service: str) -> Any:
        """Return a client of the root user."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name=REGION,
            verify=str(self._authority),
        )

    def acting_as(self, role: str) -> dict[str, str]:
        """Return the environment variables of a client with a role.

        Grants two more permissions: the emulator requires an action of its own where AWS requires
        sqs:DeleteMessage, and does not support the template's condition on metric namespaces.
        """
        name, iam = role.rsplit("/", 1)[-1], self.client("iam")
        lacking = {
            "Action": ["sqs:DeleteMessageBatch", "cloudwatch:PutMetricData"],
            "Resource": "*",
        }
        iam.put_role_policy(RoleName=name, PolicyName="lacking", PolicyDocument=_allowing(lacking))
        taken = self.client("sts").assume_role(RoleArn=role, RoleSessionName="tests")["Credentials"]
        return self.environment(
            taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"]
        )


def _allowing(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})
