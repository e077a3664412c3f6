//! The worker.
#![recursion_limit = "256"]
fn main() {
    #[cfg(target_family = "wasm")]
    wasm_bindgen_futures::spawn_local(async {
        use burn::tensor::{Device, Tensor};
        for device in [Device::flex(), Device::wgpu_options().init_async().await.unwrap()] {
            let checks = potstill_core::kernel::selftest(&device).await;
            let device = device.autodiff();
            let x = Tensor::<2>::ones([4, 4], &device).require_grad();
            let g = x.clone().matmul(x.clone()).sum().backward();
            let d = x.grad(&g).unwrap().into_data_async().await.unwrap();
            web_sys::console::log_1(&format!("{checks:?} {d:?}").into());
        }
    });
}
