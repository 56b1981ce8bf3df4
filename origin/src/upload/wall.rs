//! The walls of the decoding process: after they stand it can read its input, use its memory,
//! compute and write its answer. It opens no file and no connection, starts no process and makes
//! no memory executable.

use std::collections::BTreeMap;

use rustix::process::{Resource, Rlimit, getpid, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Raises the walls: so many bytes of memory beyond what is in use, so many seconds of processor.
///
/// # Errors
/// What the kernel refused; then no stranger's byte may be touched.
pub fn raise(memory: u64, seconds: u64) -> Result<(), String> {
    limits(memory, seconds)?;
    let program = filter().map_err(|error| format!("the filter of system calls: {error}"))?;
    seccompiler::apply_filter(&program).map_err(|error| format!("seccomp: {error}"))
}

fn limits(memory: u64, seconds: u64) -> Result<(), String> {
    let data = data_in_use()?.saturating_add(memory);
    for (resource, name, soft, hard) in [
        (Resource::Core, "core", 0, 0),
        (Resource::Fsize, "fsize", 0, 0),
        (Resource::Nofile, "nofile", 0, 0),
        (Resource::Data, "data", data, data),
        // The soft limit tells the parent why; the hard one ends what ignores it.
        (Resource::Cpu, "cpu", seconds, seconds + 1),
    ] {
        let limit = Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        };
        setrlimit(resource, limit).map_err(|error| format!("rlimit {name}: {error}"))?;
    }
    Ok(())
}

/// Private writable memory of this process now, in bytes.
fn data_in_use() -> Result<u64, String> {
    let statm = std::fs::read_to_string("/proc/self/statm").map_err(|e| format!("statm: {e}"))?;
    let pages: u64 = statm
        .split_ascii_whitespace()
        .nth(5)
        .and_then(|field| field.parse().ok())
        .ok_or("statm: not as expected")?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// What stays allowed; anything else fails with EPERM.
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    let only_if = |argument, length, operator, value| {
        SeccompCondition::new(argument, length, operator, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map(|rule| vec![rule])
    };
    let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    let own = getpid().as_raw_nonzero().get() as u64;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_mmap, only_if(2, Qword, executable.clone(), 0)?);
    rules.insert(libc::SYS_mprotect, only_if(2, Qword, executable, 0)?);
    // For abort(), which signals this process and no other.
    rules.insert(libc::SYS_tgkill, only_if(0, Dword, SeccompCmpOp::Eq, own)?);
    SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    /// The test runs itself again, since walls do not come down.
    #[test]
    fn behind_the_walls_there_is_only_arithmetic() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let run = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "upload::wall::tests::inside",
                "--ignored",
                "--nocapture",
            ])
            .env(
                "SIGNET_TEST_PORT",
                listener.local_addr().unwrap().port().to_string(),
            )
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    #[ignore = "behind_the_walls_there_is_only_arithmetic runs it in a process of its own"]
    #[allow(clippy::disallowed_methods)]
    fn inside() {
        let address = format!("127.0.0.1:{}", std::env::var("SIGNET_TEST_PORT").unwrap());
        assert!(TcpStream::connect(&address).is_ok(), "before the walls");
        let mut open = std::fs::File::open("/etc/hostname").unwrap();
        super::raise(64 << 20, 10).unwrap();

        assert!(std::fs::read("/etc/hostname").is_err());
        assert!(std::fs::write("/tmp/x", "x").is_err());
        assert!(std::fs::remove_file("/etc/hostname").is_err());
        assert!(TcpStream::connect(&address).is_err());
        assert!(Command::new("/bin/true").status().is_err());
        assert!(std::thread::Builder::new().spawn(|| ()).is_err());
        let mut too_much: Vec<u8> = Vec::new();
        assert!(too_much.try_reserve_exact(100 << 20).is_err());
        // What the work needs still goes.
        let mut enough: Vec<u8> = Vec::new();
        enough.try_reserve_exact(16 << 20).unwrap();
        enough.resize(16 << 20, 7);
        assert!(open.read(&mut enough).is_ok());
        std::io::stdout().write_all(b"still talking\n").unwrap();
    }
}
