//! The flags of `run` and `create` that limit block devices.

use clap::Args as ClapArgs;
use runtime::cgroup::BlockLimits;
use runtime::cgroup::DeviceRate;

/// How fast block devices may be used.
#[derive(Debug, ClapArgs)]
#[command(next_display_order = None)]
pub(super) struct DeviceRates {
    /// Part of a device's time beside other containers (10 to 1000)
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = parse_weight)]
    blkio_weight_device: Vec<DeviceRate>,
    /// Bytes that may be read from a device in a second
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = parse_bytes)]
    device_read_bps: Vec<DeviceRate>,
    /// Reads from a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = parse_number)]
    device_read_iops: Vec<DeviceRate>,
    /// Bytes that may be written to a device in a second
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = parse_bytes)]
    device_write_bps: Vec<DeviceRate>,
    /// Writes to a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = parse_number)]
    device_write_iops: Vec<DeviceRate>,
}

impl DeviceRates {
    /// Puts the rates on the limits.
    pub(super) fn limit(&self, limits: &mut BlockLimits) {
        limits.device_weights.clone_from(&self.blkio_weight_device);
        limits.read_bps.clone_from(&self.device_read_bps);
        limits.read_iops.clone_from(&self.device_read_iops);
        limits.write_bps.clone_from(&self.device_write_bps);
        limits.write_iops.clone_from(&self.device_write_iops);
    }
}

fn parse_weight(text: &str) -> Result<DeviceRate, String> {
    let invalid = |_| format!("invalid weight for device: {text}");
    let weight = parse(text, "", |number| number.parse().ok()).map_err(|words| {
        match words.starts_with("invalid rate") {
            true => invalid(()),
            false => words,
        }
    })?;
    match weight.rate {
        0 | 10..=1000 => Ok(weight),
        _ => Err(invalid(())),
    }
}

fn parse_bytes(text: &str) -> Result<DeviceRate, String> {
    let form = "<device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, \
                mb, or gb";
    parse(text, form, runtime::byte_size::parse)
}

fn parse_number(text: &str) -> Result<DeviceRate, String> {
    let form = "<device-path>:<number>. Number must be a positive integer";
    parse(text, form, |number| number.parse().ok())
}

fn parse(text: &str, form: &str, read: impl Fn(&str) -> Option<u64>) -> Result<DeviceRate, String> {
    let (device, rate) = text
        .split_once(':')
        .filter(|(device, _)| !device.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if !device.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    let rate = read(rate)
        .ok_or_else(|| format!("invalid rate for device: {text}. The correct format is {form}"))?;
    Ok(DeviceRate {
        device: device.into(),
        rate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_a_device_and_a_number() {
        let rate = parse_bytes("/dev/sda:1mb").expect("a rate");
        assert_eq!(
            (rate.device.to_str(), rate.rate),
            (Some("/dev/sda"), 1 << 20)
        );
        assert_eq!(parse_number("/dev/sda:100").expect("a rate").rate, 100);
        for (text, words) in [
            ("dev", "bad format: dev"),
            ("sda:1", "bad format for device path: sda:1"),
            ("/dev/sda:-1", "invalid rate for device: /dev/sda:-1"),
            ("/dev/sda:x", "invalid rate for device: /dev/sda:x"),
        ] {
            let error = parse_number(text).expect_err("no rate");
            assert!(error.starts_with(words), "{error}");
        }
    }
}
