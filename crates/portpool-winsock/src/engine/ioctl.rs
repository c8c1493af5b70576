//! The control codes, in the one order of checks that spec and tests rely on: started, socket, count
//! pointer, code, kind of socket, sizes, pointers, state of the socket, fields, and then the pool.

use std::sync::Arc;

use portpool::{
    AcquireError, AssociateError, Block, Pool, PortCount, PortRange, Refusal, ReleaseError, Scope,
    Token, Want, Wildcard,
};

use super::{
    asker::asker,
    operations::{self, Order},
    sockets::{self, Number, Socket},
    startup, threads,
};
use crate::{
    choices,
    codes::Code,
    edge::{
        memory::Bytes,
        overlapped::{Report, Structure, Told},
    },
};

/// The arguments of WSAIoctl, but for how it completes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) socket: Number,
    pub(crate) code: u32,
    pub(crate) input: Bytes,
    pub(crate) output: Bytes,
    /// Where the number of bytes goes.
    pub(crate) count: Bytes,
}

/// How an operation ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// Of output.
    pub(crate) bytes: u32,
}

/// How a call completes: at once, or as its overlapped structure says.
pub(crate) type Overlapped = Option<(Structure, Told)>;

/// Issues a control code. `overlapped` is asked for only where the call may be overlapped, and in its
/// turn among the checks.
///
/// # Errors
/// As the documentation says, in the order above; [`Code::IO_PENDING`] for an operation that was
/// started and completes later.
pub(crate) fn ioctl(
    call: &Call,
    overlapped: impl FnOnce() -> Result<Overlapped, Code>,
) -> Result<(), Code> {
    let answer = run(call, overlapped);
    let bytes = match &answer {
        Ok(done) => done.bytes,
        // Left as it is.
        Err(Code::IO_PENDING) => return Err(Code::IO_PENDING),
        Err(_) => choices::BYTES_AFTER_FAILURE,
    };
    // A count pointer that is none has been answered by then, if nothing went wrong before it.
    let stored = call.count.write(&bytes.to_ne_bytes());
    answer.and(stored)
}

fn run(call: &Call, overlapped: impl FnOnce() -> Result<Overlapped, Code>) -> Result<Done, Code> {
    let socket = sockets::find(call.socket)?;
    if call.count.is_null() {
        return Err(choices::NO_COUNT_POINTER);
    }
    let control = match call.code {
        SIO_FLUSH => {
            call.count.probe::<COUNT_SIZE>()?;
            operations::flush(socket.id());
            return Ok(Done { bytes: 0 });
        }
        code => Control::of(code).ok_or(choices::UNKNOWN_CODE)?,
    };
    let (input, overlapped) = control.arguments(call, &socket, overlapped)?;
    control.check_state(&socket)?;
    let command = input.command(control)?;
    let pool = startup::pool()?;
    let report = Report {
        output: call.output,
        overlapped,
    };
    let result = command.run(&pool, &socket, &report);
    if let Ok(done) = result
        && report.structure().is_some()
    {
        // Done at once, and told like one that was not.
        report.publish(Ok(done));
        report.announce(Ok(done), socket.id());
    }
    result
}

/// Which code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Acquire,
    Associate,
    Release,
}

impl Control {
    fn of(code: u32) -> Option<Control> {
        match code {
            SIO_ACQUIRE_PORT_RESERVATION => Some(Control::Acquire),
            SIO_RELEASE_PORT_RESERVATION => Some(Control::Release),
            SIO_ASSOCIATE_PORT_RESERVATION => Some(Control::Associate),
            _ => None,
        }
    }

    /// The arguments, looked at and copied: the caller may use its memory for other things while an
    /// operation runs.
    fn arguments(
        self,
        call: &Call,
        socket: &Socket,
        overlapped: impl FnOnce() -> Result<Overlapped, Code>,
    ) -> Result<(Input, Overlapped), Code> {
        if socket.transport().is_none() {
            return Err(choices::WRONG_SOCKET);
        }
        self.check_sizes(call)?;
        let input = self.input(call)?;
        if self == Control::Acquire {
            call.output.probe::<INSTANCE_SIZE>()?;
        }
        call.count.probe::<COUNT_SIZE>()?;
        let overlapped = match socket.is_overlapped() {
            true => overlapped()?,
            false => None,
        };
        Ok((input, overlapped))
    }

    fn check_state(self, socket: &Socket) -> Result<(), Code> {
        match self {
            Control::Associate if socket.is_bound() => Err(choices::ASSOCIATE_WHEN_BOUND),
            Control::Acquire if !choices::ACQUIRE_WHEN_BOUND && socket.is_bound() => {
                Err(Code::INVAL)
            }
            Control::Acquire | Control::Associate | Control::Release => Ok(()),
        }
    }

    fn check_sizes(self, call: &Call) -> Result<(), Code> {
        let fits = match self {
            Control::Acquire => {
                call.input.len() >= RANGE_SIZE && call.output.len() >= INSTANCE_SIZE
            }
            Control::Associate | Control::Release => {
                call.input.len() >= TOKEN_SIZE && call.output.len() == 0
            }
        };
        if fits {
            Ok(())
        } else {
            Err(choices::WRONG_SIZE)
        }
    }

    fn input(self, call: &Call) -> Result<Input, Code> {
        match self {
            Control::Acquire => Ok(Input::Range(call.input.read()?)),
            Control::Associate | Control::Release => Ok(Input::Token(call.input.read()?)),
        }
    }
}

enum Input {
    Range([u8; RANGE_SIZE]),
    Token([u8; TOKEN_SIZE]),
}

impl Input {
    fn command(self, control: Control) -> Result<Command, Code> {
        match self {
            Input::Range(bytes) => Ok(Command::Acquire(want(bytes)?)),
            Input::Token(bytes) => {
                let token = Token::new(u64::from_ne_bytes(bytes)).ok_or(choices::UNKNOWN_TOKEN)?;
                Ok(match control {
                    Control::Associate => Command::Associate(token),
                    Control::Acquire | Control::Release => Command::Release(token),
                })
            }
        }
    }
}

/// What is wanted by an INET_PORT_RANGE: the first port in network order, the count in that of the host.
fn want([p0, p1, c0, c1]: [u8; RANGE_SIZE]) -> Result<Want, Code> {
    let (first, count) = (u16::from_be_bytes([p0, p1]), u16::from_ne_bytes([c0, c1]));
    match first {
        0 => {
            let count = PortCount::new(count).ok_or(choices::NO_SUCH_RANGE)?;
            Ok(Want::Wildcard(Wildcard::new(count)))
        }
        first => {
            let range = PortRange::from_numbers(first, count);
            Ok(Want::Specific(range.map_err(|_| choices::NO_SUCH_RANGE)?))
        }
    }
}

/// A code with its arguments understood.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    Acquire(Want),
    Associate(Token),
    Release(Token),
}

impl Command {
    /// Does it, or starts it.
    fn run(self, pool: &Pool, socket: &Arc<Socket>, report: &Report) -> Result<Done, Code> {
        match self {
            Command::Acquire(want) => {
                let acquired = pool.acquire_on(socket, &want, Scope::Associated);
                match (acquired, want) {
                    (Ok(block), _) => store(socket, &block, report.output),
                    (Err(error), Want::Specific(range))
                        if error.refusal() == Some(Refusal::Ephemeral) =>
                    {
                        ask(socket, range, report)
                    }
                    (Err(error), _) => Err(acquire_code(&error)),
                }
            }
            Command::Associate(token) => {
                let associated = pool.associate(socket, token);
                associated.map_err(|error| associate_code(&error))?;
                socket.set_associated();
                Ok(WITHOUT_OUTPUT)
            }
            Command::Release(token) => {
                if !choices::RELEASE_ON_ANY_SOCKET && !sockets::is_owner(socket, token) {
                    return Err(choices::UNKNOWN_TOKEN);
                }
                let released = pool.release_on(socket, token);
                released.map_err(|error| release_code(&error))?;
                sockets::disown(token);
                Ok(WITHOUT_OUTPUT)
            }
        }
    }
}

/// Asks for ports that automatic choice could pick. A call that is not overlapped waits here.
fn ask(socket: &Arc<Socket>, range: PortRange, report: &Report) -> Result<Done, Code> {
    let transport = socket.transport().ok_or(choices::WRONG_SOCKET)?;
    let mut report = report.clone();
    if !choices::MAY_BE_PENDING {
        report.overlapped = None;
    }
    let is_overlapped = report.overlapped.is_some();
    let order = Order {
        socket: socket.clone(),
        issuer: threads::current()?.id(),
        range,
        asked: asker().ask(socket, transport, range)?,
        report,
    };
    let operation = operations::start(order)?;
    match is_overlapped {
        true => Err(Code::IO_PENDING),
        false => operation.wait(),
    }
}

/// Claims ports that were made grantable.
pub(crate) fn claim(socket: &Socket, range: PortRange) -> Result<Block, Code> {
    let claimed = startup::pool()?.acquire_on(socket, &Want::Specific(range), Scope::Associated);
    claimed.map_err(|error| acquire_code(&error))
}

/// Stores the output of an ACQUIRE; without room for it nothing stays reserved.
pub(crate) fn store(socket: &Socket, block: &Block, output: Bytes) -> Result<Done, Code> {
    sockets::own(socket, block.token, block.range);
    if let Err(fault) = output.write(&instance(block)) {
        // The memory was there a moment ago: nobody would know the token.
        sockets::disown(block.token);
        startup::pool()?
            .release_on(socket, block.token)
            .map_err(|error| release_code(&error))?;
        return Err(fault);
    }
    Ok(Done {
        bytes: INSTANCE_SIZE as u32,
    })
}

/// An INET_PORT_RESERVATION_INSTANCE.
fn instance(block: &Block) -> [u8; INSTANCE_SIZE] {
    let mut bytes = [0; INSTANCE_SIZE];
    bytes[..2].copy_from_slice(&block.range.first().number().to_be_bytes());
    bytes[2..4].copy_from_slice(&block.range.count().number().to_ne_bytes());
    bytes[8..].copy_from_slice(&block.token.value().to_ne_bytes());
    bytes
}

fn acquire_code(error: &AcquireError) -> Code {
    match (error, error.refusal()) {
        // Others were quicker with every block that was tried.
        (AcquireError::Contended { .. }, _) => choices::NO_ROOM,
        (_, Some(refusal)) => choices::acquire_refused(refusal),
        (AcquireError::Failure { failure, .. }, _) => Code::of(&failure.cause),
        (AcquireError::Descriptors { .. }, _) => choices::OVER_A_LIMIT,
        (AcquireError::OutsideRanges { .. } | AcquireError::OnlyEphemeral { .. }, _) => {
            choices::NO_ROOM
        }
        _ => choices::SERVICE_UNREACHABLE,
    }
}

fn associate_code(error: &AssociateError) -> Code {
    match (error.refusal(), error) {
        (Some(refusal), _) => choices::associate_refused(refusal),
        (None, AssociateError::Failure(failure)) => Code::of(&failure.cause),
        (None, _) => choices::WRONG_SOCKET,
    }
}

fn release_code(error: &ReleaseError) -> Code {
    match (error.refusal(), error) {
        (Some(refusal), _) => choices::release_refused(refusal),
        (None, ReleaseError::Failure { failure, .. }) => Code::of(&failure.cause),
        (None, _) => choices::UNKNOWN_TOKEN,
    }
}

const WITHOUT_OUTPUT: Done = Done {
    bytes: choices::BYTES_WITHOUT_OUTPUT,
};

const SIO_FLUSH: u32 = 0x2800_0004;
const SIO_ACQUIRE_PORT_RESERVATION: u32 = 0x9800_0064;
const SIO_RELEASE_PORT_RESERVATION: u32 = 0x9800_0065;
const SIO_ASSOCIATE_PORT_RESERVATION: u32 = 0x9800_0066;

/// INET_PORT_RANGE
const RANGE_SIZE: usize = 4;
/// INET_PORT_RESERVATION_TOKEN
const TOKEN_SIZE: usize = 8;
/// INET_PORT_RESERVATION_INSTANCE
const INSTANCE_SIZE: usize = 16;
const COUNT_SIZE: usize = 4;
