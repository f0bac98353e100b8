//! What changes counts though nothing of ours has changed.

use std::process::Command;

use crate::Failure;

/// What was counted with, in words: equal where counts can be compared closely.
pub fn here() -> Result<Vec<(String, String)>, Failure> {
    let said = [
        ("rustc", first_line("rustc", &["--version"])?),
        ("valgrind", first_line("valgrind", &["--version"])?),
        // Whose `memcpy` and `malloc` are counted with everything else; nothing asks it elsewhere than on glibc.
        ("libc", first_line("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_else(|_| "unknown".into())),
        ("architecture", std::env::consts::ARCH.into()),
    ];
    Ok(said.map(|(name, value)| (name.to_string(), value)).into())
}

fn first_line(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.lines().next().unwrap_or_default().trim().to_string())
}

/// What the processor says it has, of what our dependencies choose their code by. Below valgrind that is not the machine's.
pub fn features() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let all = [
            ("ssse3", std::arch::is_x86_feature_detected!("ssse3")),
            ("aes", std::arch::is_x86_feature_detected!("aes")),
            ("avx", std::arch::is_x86_feature_detected!("avx")),
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("bmi2", std::arch::is_x86_feature_detected!("bmi2")),
            ("adx", std::arch::is_x86_feature_detected!("adx")),
            ("sha", std::arch::is_x86_feature_detected!("sha")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
            ("avx512ifma", std::arch::is_x86_feature_detected!("avx512ifma")),
        ];
        all.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
    }
    #[cfg(not(target_arch = "x86_64"))]
    "not looked at".into()
}
