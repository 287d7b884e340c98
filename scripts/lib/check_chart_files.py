"""Reads rendered manifests on standard input and checks the files of the ConfigMap against ci/full-values.yaml."""
import sys

import yaml

expected_mount = {
    "path": "/lake", "source": "s3://lake/warehouse", "endpoint": "https://s3.example:9000", "region": "eu-central-1",
    "pathStyle": "on", "metadataTTL": "5m", "negativeTTL": "10s", "cache": "always", "uid": 1000000, "gid": 1000,
    "fileMode": "0444", "dirMode": "0555", "caFile": "/etc/larder-ca/ca.pem",
}
expected_coordinator = {
    "socket": "/run/larder/coordinator.sock",
    "stateDirectory": "/nvme/larder-state",
    "cache": {
        "blockSize": "256KiB",
        "tiers": [
            {"kind": "ram", "path": "/cache/ram", "size": "8GiB"},
            {"kind": "disk", "path": "/nvme/larder", "size": "2TiB", "reserve": "50GiB"},
        ],
    },
    "http": {"listen": "0.0.0.0:19809"},
    "logLevel": "debug",
}

files = next(item["data"] for item in yaml.safe_load_all(sys.stdin) if item and item["kind"] == "ConfigMap")
namespace = yaml.safe_load(files["namespace.yaml"])
coordinator = yaml.safe_load(files["coordinator.yaml"])
wrong = []
if [mount["path"] for mount in namespace["mounts"]] != ["/lake", "/lake/public", "/reference"]:
    wrong.append(f"mount points: {namespace}")
if namespace["mounts"][0] != expected_mount:
    wrong.append(f"mount: {namespace['mounts'][0]}")
if coordinator != expected_coordinator:
    wrong.append(f"coordinator: {coordinator}")
print("\n".join(wrong), end="\n" if wrong else "")
sys.exit(bool(wrong))
