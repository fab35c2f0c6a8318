//! The graphics devices of this machine, and whether they compute rightly.

use super::BackendRow;

/// A row for each device of each way to it; one that says why where there is none.
pub(super) fn rows() -> Vec<BackendRow> {
    let mut rows = wgpu_rows();
    rows.extend(cuda_rows());
    rows
}

fn wgpu_rows() -> Vec<BackendRow> {
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

#[cfg(feature = "cuda")]
fn cuda_rows() -> Vec<BackendRow> {
    use dn_compute::cuda::{Cuda, CudaDevice, CudaOptions, devices};

    let row = |device: CudaDevice| {
        let cache = crate::home::kernel_cache();
        let options = CudaOptions { device: Some(device.name.clone()), cache, ..CudaOptions::default() };
        let checked = Cuda::qualified(&options);
        let CudaDevice { name, driver, isa, .. } = device;
        let verdict = match &checked {
            Ok(_) => "qualified".to_owned(),
            Err(error) => format!("REFUSED: {error}"),
        };
        let note = format!("{name} ({driver}): {verdict}").into();
        BackendRow { backend: "cuda", isa, available: checked.is_ok(), note }
    };
    match devices() {
        Ok(devices) => devices.into_iter().map(row).collect(),
        Err(error) => {
            vec![BackendRow { backend: "cuda", isa: "", available: false, note: error.to_string().into() }]
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda_rows() -> Vec<BackendRow> {
    vec![BackendRow { backend: "cuda", isa: "", available: false, note: "not built in this version".into() }]
}
