#!/usr/bin/env bash
# Runs the MLflow server of a cluster's head: on 127.0.0.1, behind a password, artifacts in the bucket.
set -euo pipefail

own=$HOME/.holdout-sweeps
. "$own/environment"
set -a
. "$own/mlflow/settings"
MLFLOW_AUTH_CONFIG_PATH=$own/mlflow/auth.ini
MLFLOW_AUTH_ADMIN_PASSWORD=$(cat "$own/mlflow/password")
MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$own/mlflow/secret")
MLFLOW_DISABLE_TELEMETRY=true
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false    # would start eight processes that sweeps do not need
DO_NOT_TRACK=true
set +a

# Passwords are hashed slowly on purpose; remembering a checked one for a minute spares each call that delay.
umask 077
cat >"$MLFLOW_AUTH_CONFIG_PATH" <<END
[mlflow]
default_permission = READ
database_uri = sqlite:///$own/mlflow/users.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
END

cd "$own/mlflow"
exec mlflow server --app-name basic-auth --host 127.0.0.1 --port 5000 --workers 2 \
    --backend-store-uri "${DATABASE:-sqlite:///$own/mlflow/mlflow.db}" \
    --artifacts-destination "$HOLDOUT_BUCKET/mlflow"
