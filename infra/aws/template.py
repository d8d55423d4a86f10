"""The CloudFormation templates of infra/aws, each merged from the files of a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

STACKS = ("base", "run")
"""The stacks in order of deployment; they are deleted in reverse order."""
_FOLDER = Path(__file__).parent
NAME_PATTERN = "[a-z][a-z0-9-]{1,19}"
NAME_RULE = "2 to 20 lowercase letters, digits and hyphens, starting with a letter"
_NAME = {
    "Type": "String",
    "Default": "moodlake",
    "AllowedPattern": NAME_PATTERN,
    "ConstraintDescription": NAME_RULE,
    "Description": "Name of the installation, the prefix of all resource names",
}


class _Loader(yaml.CSafeLoader):
    """A YAML loader that understands CloudFormation's short forms: !Sub is Fn::Sub."""


def _long_form(loader: _Loader, name: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if name == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _long_form)


def template(name: str) -> dict[str, Any]:
    """Return the template of a folder, such as `base`.

    Raises:
        ValueError: two files define the same name.
    """
    whole: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"moodlake: {name}",
        "Parameters": {"Name": _NAME},
    }
    for path in sorted((_FOLDER / name).glob("*.yaml")):
        for section, content in yaml.load(path.read_text("utf-8"), _Loader).items():
            known = whole.setdefault(section, {})
            if twice := known.keys() & content:
                raise ValueError(f"{path.name}: {', '.join(sorted(twice))} defined twice")
            known |= content
    return whole


def required(whole: Mapping[str, Any]) -> set[str]:
    """Return the parameters of a template without a default."""
    return whole["Parameters"].keys() - optional(whole)


def optional(whole: Mapping[str, Any]) -> set[str]:
    """Return the parameters of a template with a default."""
    return {name for name, each in whole["Parameters"].items() if "Default" in each}


def invalid_value(whole: Mapping[str, Any], given: Mapping[str, str]) -> str | None:
    """Return why a value violates its parameter's rule, or None if all are valid."""
    for name, value in given.items():
        parameter = whole["Parameters"].get(name, {})
        allowed = parameter.get("AllowedValues")
        pattern = parameter.get("AllowedPattern", ".*")
        if allowed and value not in allowed:
            return f"{name} is {value!r}, but must be one of {', '.join(allowed)}"
        if not re.fullmatch(pattern, value):
            return f"{name} is {value!r}, but must be {parameter['ConstraintDescription']}"
    return None


def body(name: str, known: Mapping[str, str]) -> str:
    """Return the template as JSON for CloudFormation.

    Retained buckets get literal names, because CloudFormation only imports existing resources by
    literal names.

    Args:
        name: folder of the template.
        known: values of parameters, and of AWS::AccountId and AWS::Region.
    """
    whole = template(name)
    for resource in whole["Resources"].values():
        if resource["Type"] == "AWS::S3::Bucket" and "DeletionPolicy" in resource:
            properties = resource["Properties"]
            properties["BucketName"] = _resolve(properties["BucketName"], known)
    return json.dumps(whole, separators=(",", ":"))


def _resolve(value: Mapping[str, str], known: Mapping[str, str]) -> str:
    """Return the value of a Ref or Fn::Sub."""
    ((function, text),) = value.items()
    if function == "Ref":
        return known[text]
    return re.sub(r"\$\{([\w:]+)\}", lambda found: known[found[1]], text)
