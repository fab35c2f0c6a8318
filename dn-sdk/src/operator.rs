//! What the programs around the roles share: settings in layers, keys from keystores, starting a role from its
//! settings, and the signal to stop.

mod settings;
mod start;

pub use dn_compute::{BackendChoice, ByteSize};
pub use dn_ledger::node::LOG_FILTERS;
pub use settings::{
    ApiKeySettings, DN, GatewaySettings, Settings, SettingsError, Trusted, ValidatorSettings, WorkerSettings,
    layered,
};
pub use start::{
    OperatorError, RunningValidator, load_model, open_keystore, start_gateway, start_validator, start_worker,
    stop_signal,
};
