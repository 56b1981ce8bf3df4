//! The S3 client's configuration: everything is said here, nothing is looked up elsewhere.

use std::time::Duration;

use aws_sdk_s3::Config;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use crate::storage::{Addressing, S3Settings, StoreError};

/// A transfer that moves nothing for so long is given up.
const STALLED: Duration = Duration::from_secs(10);

/// The client's configuration.
pub fn config(settings: &S3Settings) -> Result<Config, StoreError> {
    let secret = settings.secret()?;
    let credentials = Credentials::new(
        &settings.access_key_id,
        secret.expose(),
        None,
        None,
        "signet",
    );
    Ok(Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(
            Builder::new()
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .build_https(),
        )
        // Without the slash the SDK joins a path in the address and the bucket's name into one.
        .endpoint_url(format!("{}/", settings.endpoint.trim_end_matches('/')))
        .region(Region::new(settings.region.clone()))
        .credentials_provider(credentials)
        .force_path_style(settings.addressing == Addressing::Path)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(settings.max_attempts)
                .with_initial_backoff(Duration::from_millis(200))
                .with_max_backoff(Duration::from_secs(5)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(settings.connect_timeout())
                .read_timeout(settings.attempt_timeout())
                .operation_attempt_timeout(settings.attempt_timeout())
                .operation_timeout(settings.operation_timeout())
                .build(),
        )
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .grace_period(STALLED)
                .build(),
        )
        .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
        .response_checksum_validation(ResponseChecksumValidation::WhenSupported)
        .build())
}
