//! The graphics devices of this machine, and whether they compute rightly.

use super::BackendRow;

/// A row for each device; one that says why where there is none.
pub(super) fn rows() -> Vec<BackendRow> {
    let rows = found();
    if !rows.is_empty() {
        return rows;
    }
    let note = if cfg!(feature = "gpu") {
        "no graphics driver (without a card: mesa-vulkan-drivers)"
    } else {
        "not built in this version"
    };
    vec![BackendRow { backend: "wgpu", isa: "", available: false, note: note.into() }]
}

#[cfg(feature = "gpu")]
fn found() -> Vec<BackendRow> {
    use dn_compute::wgpu::{AdapterSummary, Wgpu, WgpuOptions, adapters};

    let row = |device: AdapterSummary| {
        let options = WgpuOptions { adapter: Some(device.name.clone()), ..WgpuOptions::default() };
        let checked = Wgpu::qualified(&options);
        let AdapterSummary { name, driver, api, kind, .. } = device;
        let verdict = match &checked {
            Ok(_) => "qualified".to_owned(),
            Err(error) => format!("REFUSED: {error}"),
        };
        let note = format!("{name} ({kind}, {driver}): {verdict}").into();
        BackendRow { backend: "wgpu", isa: api, available: checked.is_ok(), note }
    };
    adapters().into_iter().map(row).collect()
}

#[cfg(not(feature = "gpu"))]
const fn found() -> Vec<BackendRow> {
    Vec::new()
}
