"""The template of run: closed networks, small roles, alarms; without deploying it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from infra.aws.installation import METRICS, SERVER_WAIT, Installation
from infra.aws.stack import CloudError
from infra.aws.template import STACKS, required, template
from infra.local.gateway import ANSWER_SECONDS, DRAIN_SECONDS, KEEP_SECONDS
from moodlake.scoring.cloudwatch import BUCKET, UNITS
from moodlake.settings import Settings
from tests.aws.test_template import listed, resources

UPLOADED = {"RequirementsVersion", "PluginsVersion", "StartupVersion"}
NAMESPACE = resources("AWS::MWAA::Environment")["Airflow"]["AirflowConfigurationOptions"][
    "moodlake.metrics"
]
AWS_METRICS = {
    "AWS/ApplicationELB": {
        "HTTPCode_ELB_502_Count",
        "HTTPCode_ELB_503_Count",
        "HTTPCode_ELB_504_Count",
        "HTTPCode_Target_5XX_Count",
        "HealthyHostCount",
        "RequestCount",
        "TargetResponseTime",
        "UnHealthyHostCount",
    },
    "AWS/ECS": {"CPUUtilization"},
    "AWS/SQS": {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"},
}
ALARMS = resources("AWS::CloudWatch::Alarm")


def mentioned(value: Any) -> Iterator[str]:
    """Yield the names in Ref, GetAtt, Sub and conditions."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("Ref", "Condition") and isinstance(inner, str):
                yield inner
            elif key == "Fn::GetAtt" or key == "Fn::If":
                yield inner[0]
            elif key == "Fn::Sub":
                text = inner if isinstance(inner, str) else inner[0]
                yield from re.findall(r"\$\{(\w+)", text)
            yield from mentioned(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from mentioned(inner)


def metrics(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """Return namespace, name and dimensions of the metrics of an alarm."""
    if "Metrics" not in alarm:
        return [alarm]
    return [each["MetricStat"]["Metric"] for each in alarm["Metrics"] if "MetricStat" in each]


def test_required_parameters_are_outputs_of_base_or_uploads() -> None:
    whole = template("run")
    assert required(whole) - UPLOADED - {"ServerTag"} <= template("base")["Outputs"].keys()
    assert set(whole["Parameters"]) <= set(mentioned(whole))


def test_nothing_is_open_to_the_world() -> None:
    groups = resources("AWS::EC2::SecurityGroup")
    rules = [rule for each in groups.values() for rule in each.get("SecurityGroupIngress", ())]
    others = resources("AWS::EC2::SecurityGroupIngress")
    assert others.pop("OtherCallers")["CidrIp"] == {"Ref": "Callers"}
    rules += others.values()
    assert len(rules) == 3
    for rule in rules:
        assert "SourceSecurityGroupId" in rule
        assert not rule.keys() & {"CidrIp", "CidrIpv6", "SourcePrefixListId"}
    for balancer in resources("AWS::ElasticLoadBalancingV2::LoadBalancer").values():
        assert balancer["Scheme"] == "internal"
    for subnet in resources("AWS::EC2::Subnet").values():
        assert not subnet.get("MapPublicIpOnLaunch")


@pytest.mark.parametrize(
    ("block", "taken"),
    [
        ("", True),
        ("10.0.0.0/8", True),
        ("172.31.4.0/24", True),
        ("192.168.1.7/32", True),
        ("0.0.0.0/0", False),
        ("10.0.0.0/0", False),
        ("172.32.0.0/16", False),
        ("8.8.8.8/32", False),
    ],
)
def test_other_callers_have_private_addresses(block: str, taken: bool) -> None:
    pattern = template("run")["Parameters"]["Callers"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, block)) == taken


def test_security_groups_allow_only_these_connections() -> None:
    groups = resources("AWS::EC2::SecurityGroup")
    (server,) = groups["ServerGroup"]["SecurityGroupIngress"]
    assert server["SourceSecurityGroupId"] == {"Ref": "BalancerGroup"}
    assert server["FromPort"] == server["ToPort"] == 8080
    (balancer,) = groups["BalancerGroup"]["SecurityGroupIngress"]
    assert balancer["SourceSecurityGroupId"] == {"Ref": "AirflowGroup"}
    assert "SecurityGroupIngress" not in groups["AirflowGroup"]


def test_servers_are_private_and_unprivileged() -> None:
    (service,) = resources("AWS::ECS::Service").values()
    network = service["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["AssignPublicIp"] == "DISABLED"
    assert network["Subnets"] == [{"Ref": "PrivateA"}, {"Ref": "PrivateB"}]
    (container,) = resources("AWS::ECS::TaskDefinition")["ServerTask"]["ContainerDefinitions"]
    assert container["User"] == "1000"
    assert container["ReadonlyRootFilesystem"]
    assert container["StopTimeout"] > DRAIN_SECONDS


def test_the_number_of_servers_is_left_to_the_scaling() -> None:
    (service,) = resources("AWS::ECS::Service").values()
    assert "DesiredCount" not in service


def test_machines_protect_their_role_and_their_disks() -> None:
    (machine,) = resources("AWS::EC2::LaunchTemplate").values()
    data = machine["LaunchTemplateData"]
    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert all(each["Ebs"]["Encrypted"] for each in data["BlockDeviceMappings"])
    (group,) = resources("AWS::AutoScaling::AutoScalingGroup").values()
    assert group["MinSize"] == "0"


def test_without_a_gpu_there_are_no_training_resources() -> None:
    training = {"Training", "Machine", "Gpu"}
    for name, resource in template("run")["Resources"].items():
        if any(name.startswith(word) for word in training):
            assert resource["Condition"] == "WithGpu", name


def test_logs_expire() -> None:
    assert all(log["RetentionInDays"] <= 90 for log in resources("AWS::Logs::LogGroup").values())


def test_each_role_has_one_user() -> None:
    whole = template("run")["Resources"]
    roles = {name for name, each in whole.items() if each["Type"] == "AWS::IAM::Role"}
    for role in {*roles, "AirflowRole"}:
        users = [name for name, each in whole.items() if role in set(mentioned(each))]
        assert len(users) == 1, f"{role}: {users}"


def test_the_role_of_airflow_names_the_existing_environment() -> None:
    (environment,) = resources("AWS::MWAA::Environment").values()
    assert environment["Name"] == {"Ref": "Name"}
    role = resources("AWS::IAM::Role")["AirflowRole"]
    named = {
        resource["Fn::Sub"].rsplit(":", 1)[1]
        for policy in role["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        for resource in listed(statement["Resource"])
        if "Fn::Sub" in resource and "arn:" in resource["Fn::Sub"]
    }
    assert named == {"environment/${Name}", "airflow-${Name}-*", "airflow-celery-*"}


def test_airflow_may_emit_the_metrics_that_alarms_read() -> None:
    policies = resources("AWS::IAM::Role")["AirflowRole"]["Policies"]
    (condition,) = (
        statement["Condition"]
        for policy in policies
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Action"] == "cloudwatch:PutMetricData"
    )
    assert NAMESPACE in condition["StringEquals"]["cloudwatch:namespace"]


def test_airflow_gets_the_settings_that_the_code_reads() -> None:
    (environment,) = resources("AWS::MWAA::Environment").values()
    variables = {
        f"MOODLAKE_{name.removeprefix('moodlake.').upper()}": "900"
        for name in environment["AirflowConfigurationOptions"]
        if name.startswith("moodlake.")
    }
    assert Settings.from_environment(variables).to_environment() == variables


def test_roles_name_resources_of_their_stack() -> None:
    for part in STACKS:
        whole = template(part)
        known = whole["Resources"].keys() | whole["Parameters"] | {"Repository"}
        for role in resources("AWS::IAM::Role").keys() & whole["Resources"]:
            properties = whole["Resources"][role]["Properties"]
            assert {name for name in mentioned(properties) if name[:3] != "AWS"} <= known, role


@pytest.mark.parametrize("name", sorted(ALARMS))
def test_an_alarm_reads_an_existing_metric_and_has_an_action(name: str) -> None:
    alarm = ALARMS[name]
    for metric in metrics(alarm):
        known = {NAMESPACE: set(UNITS), **AWS_METRICS}[metric["Namespace"]]
        assert metric["MetricName"] in known
        dimensions = {each["Name"] for each in metric["Dimensions"]}
        assert (dimensions == {BUCKET}) == (metric["Namespace"] == NAMESPACE)
    (action,) = alarm["AlarmActions"]
    scaling = resources("AWS::ApplicationAutoScaling::ScalingPolicy")
    assert action["Ref"] == "AlarmTopic" or action["Ref"] in scaling
    assert (action["Ref"] == "AlarmTopic") == ("OKActions" in alarm)


def test_the_alarm_of_missing_runs_treats_missing_data_as_a_breach() -> None:
    assert ALARMS["NoRuns"]["TreatMissingData"] == "breaching"
    breaching = {name for name, alarm in ALARMS.items() if alarm["TreatMissingData"] == "breaching"}
    assert breaching == {"NoRuns"}


def test_resources_carry_the_tags_of_the_budget() -> None:
    (service,) = resources("AWS::ECS::Service").values()
    assert service["PropagateTags"] == "SERVICE"
    (machine,) = resources("AWS::EC2::LaunchTemplate").values()
    for each in machine["LaunchTemplateData"]["TagSpecifications"]:
        assert {"Key": "project", "Value": "moodlake"} in each["Tags"]
    (budget,) = resources("AWS::Budgets::Budget").values()
    assert budget["Budget"]["CostFilters"] == {"TagKeyValue": [{"Fn::Sub": "user:name$${Name}"}]}


def test_a_region_without_managed_airflow_is_an_error_for_run_only() -> None:
    cloud = Installation("moodlake", "mx-central-1")
    cloud.check(["base"])
    with pytest.raises(CloudError, match=r"not offer mwaa, which run needs; .* \(--only base\)"):
        cloud.check(STACKS)


@pytest.mark.parametrize("region", ["eu-central-1", "us-east-1", "ap-northeast-1"])
def test_a_region_with_all_services_is_accepted(region: str) -> None:
    Installation("moodlake", region).check(STACKS)


@pytest.mark.parametrize("size", ["small", "large"])
def test_airflow_runs_one_scoring_task_per_worker(size: str) -> None:
    found = template("run")["Mappings"]
    scaling, server = found["Scaling"][size], found["Server"][size]
    assert int(scaling["Slots"]) == scaling["Most"] * int(server["Cpu"]) / 1024


@pytest.mark.parametrize(("size", "memory"), [("small", 2e9), ("large", 8e9)])
def test_the_tasks_of_airflows_workers_have_room(size: str, memory: float) -> None:
    """A task takes 380 MB (measured), up to 256 MB more for large photos."""
    there = template("run")["Mappings"]
    most, _ = map(int, there["Airflow"][size]["Tasks"].split(","))
    assert most * (380e6 + 256e6) < 0.9 * memory
    # All concurrent scoring tasks, and the plan of another DAG.
    slots = int(there["Scaling"][size]["Slots"])
    assert there["Airflow"][size]["MostWorkers"] * most > slots


def test_an_airflow_elsewhere_gets_the_same_settings() -> None:
    options = template("run")["Resources"]["Airflow"]["Properties"]["AirflowConfigurationOptions"]
    assert options["moodlake.server_wait"] == str(SERVER_WAIT)
    assert options["moodlake.metrics"] == METRICS


def test_the_balancer_times_out_after_answers_and_before_the_server_disconnects() -> None:
    balancer = resources("AWS::ElasticLoadBalancingV2::LoadBalancer")["Balancer"]
    set_to = {each["Key"]: each["Value"] for each in balancer["LoadBalancerAttributes"]}
    assert ANSWER_SECONDS < int(set_to["idle_timeout.timeout_seconds"]) < KEEP_SECONDS


def test_a_busy_server_is_not_stopped() -> None:
    """Unlike /ready, /health bypasses the queue; the check allows it time all the same."""
    targets = resources("AWS::ElasticLoadBalancingV2::TargetGroup")["Targets"]
    assert targets["HealthCheckPath"] == "/health"
    assert 10 < targets["HealthCheckTimeoutSeconds"] < targets["HealthCheckIntervalSeconds"]
    patience = targets["HealthCheckIntervalSeconds"] * targets["UnhealthyThresholdCount"]
    assert patience >= 2 * DRAIN_SECONDS
