// SPDX-License-Identifier: GPL-2.0

//! How the vendors arrange an option's bytes, and the table of what is read.
//!
//! `docs/wire-formats.md` says who sends which, [`profile`](super::profile) has a table per vendor. To
//! read one more arrangement, add a [`Format`]; for one more kind or length, add a row to a profile.

/// How an option's body is arranged. All fields are in network byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `port2 ip4`: the client's port and IPv4 address.
    ClientV4,
    /// `port2 ip6`: the client's port and IPv6 address.
    ClientV6,
    /// `version1 ip4`: the client's IPv4 address.
    ClientV4NoPort,
    /// `version1 ip6`: the client's IPv6 address.
    ClientV6NoPort,
    /// `port2 ip4`: where the client connected to (the virtual server, VIP), beside the client's own
    /// option.
    VipV4,
    /// `port2 ip6`: the same over IPv6.
    VipV6,
    /// `id4`: the VPC of the virtual server, beside the client's own option.
    VpcId,
    /// `cport2 cip4 pad2 vport2 vip4`: client and VIP.
    ClientVipV4,
    /// `cport2 cip4 id4 vip4 vport2 pad2`: client, VIP and VPC.
    ClientVipVpcV4,
    /// `cport2 cip6 id3 pad1 vip6`: the same over IPv6, where the VIP has no port.
    ClientVipVpcV6,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::ClientV4,
        Self::ClientV6,
        Self::ClientV4NoPort,
        Self::ClientV6NoPort,
        Self::VipV4,
        Self::VipV6,
        Self::VpcId,
        Self::ClientVipV4,
        Self::ClientVipVpcV4,
        Self::ClientVipVpcV6,
    ];

    /// Its name in the parameter `layouts`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientV4 => "client-v4",
            Self::ClientV6 => "client-v6",
            Self::ClientV4NoPort => "client-v4-noport",
            Self::ClientV6NoPort => "client-v6-noport",
            Self::VipV4 => "vip-v4",
            Self::VipV6 => "vip-v6",
            Self::VpcId => "vpc-id",
            Self::ClientVipV4 => "client-vip-v4",
            Self::ClientVipVpcV4 => "client-vip-vpc-v4",
            Self::ClientVipVpcV6 => "client-vip-vpc-v6",
        }
    }

    /// The one length that an option arranged so has on the wire.
    pub const fn length(self) -> u8 {
        match self {
            Self::VpcId => 6,
            Self::ClientV4NoPort => 7,
            Self::ClientV4 | Self::VipV4 => 8,
            Self::ClientVipV4 => 16,
            Self::ClientV6NoPort => 19,
            Self::ClientV6 | Self::VipV6 | Self::ClientVipVpcV4 => 20,
            Self::ClientVipVpcV6 => 40,
        }
    }

    /// Whether it names the client.
    pub const fn has_client(self) -> bool {
        !matches!(self, Self::VipV4 | Self::VipV6 | Self::VpcId)
    }

    /// Whether it names the VIP.
    pub const fn has_vip(self) -> bool {
        use Format::{ClientVipV4, ClientVipVpcV4, ClientVipVpcV6, VipV4, VipV6};
        matches!(
            self,
            VipV4 | VipV6 | ClientVipV4 | ClientVipVpcV4 | ClientVipVpcV6
        )
    }

    /// Whether it names the VPC.
    pub const fn has_vpc_id(self) -> bool {
        matches!(
            self,
            Self::VpcId | Self::ClientVipVpcV4 | Self::ClientVipVpcV6
        )
    }
}

/// One row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The option's kind.
    pub kind: u8,
    /// The option's whole length on the wire.
    pub length: u8,
    /// What its body holds.
    pub format: Format,
}

impl Layout {
    /// An option of this kind and format.
    pub const fn new(kind: u8, format: Format) -> Self {
        Self {
            kind,
            length: format.length(),
            format,
        }
    }
}

/// How many rows a table can have.
pub const MAX_ROWS: usize = 16;

/// Why a row cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// An option of that kind and length is read in another way already.
    Clash,
    /// The table is full.
    Full,
}

/// The set of layouts in force: which options are read, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    rows: [Layout; MAX_ROWS],
    used: usize,
    /// No row's kind is lower.
    lowest_kind: u8,
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// One that reads nothing.
    pub const fn new() -> Self {
        Self {
            rows: [Layout::new(0, Format::ClientV4); MAX_ROWS],
            used: 0,
            lowest_kind: u8::MAX,
        }
    }

    /// Reads one more option from now on.
    ///
    /// # Errors
    ///
    /// [`Unfit`] says why not.
    pub fn add(&mut self, row: Layout) -> Result<(), Unfit> {
        if self.find(row.kind, row.length).is_some() {
            return Err(Unfit::Clash);
        }
        *self.rows.get_mut(self.used).ok_or(Unfit::Full)? = row;
        self.used = self.used.wrapping_add(1);
        self.lowest_kind = self.lowest_kind.min(row.kind);
        Ok(())
    }

    /// Its rows.
    pub fn rows(&self) -> &[Layout] {
        self.rows.get(..self.used).unwrap_or(&self.rows)
    }

    /// The row that reads an option of this kind and length, and its number.
    #[inline(always)]
    fn find(&self, kind: u8, length: u8) -> Option<(u8, Layout)> {
        let mut number = 0;
        for row in self.rows() {
            if row.kind == kind && row.length == length {
                return Some((number, *row));
            }
            number = u8::wrapping_add(number, 1);
        }
        None
    }

    /// Recognises one option; `in_syn` tells whether its segment is a SYN, where kind 254 may be a
    /// Fast Open cookie.
    #[inline(always)]
    pub fn decode<'a>(&self, kind: u8, length: u8, body: &'a [u8], in_syn: bool) -> Verdict<'a> {
        // Ordinary segments carry kinds below every row's.
        if kind < self.lowest_kind {
            return Verdict::Foreign;
        }
        let fast_open = in_syn && kind == FAST_OPEN_KIND && body.starts_with(&FAST_OPEN_EXID);
        if fast_open && length == FAST_OPEN_LIKE_V4 {
            return Verdict::Foreign;
        }
        if let Some((row, layout)) = self.find(kind, length) {
            return Verdict::Toa(Carried { row, layout, body });
        }
        let standard = fast_open || (kind, length) == USER_TIMEOUT;
        if !standard && self.rows().iter().any(|layout| layout.kind == kind) {
            Verdict::WrongLength
        } else {
            Verdict::Foreign
        }
    }
}

/// The kind of TCP Fast Open while it was an experiment. Experiments share it (RFC 6994), and are told
/// by the first two bytes.
const FAST_OPEN_KIND: u8 = 254;

/// The first two bytes of that experiment (RFC 7413, section 4.1.1).
const FAST_OPEN_EXID: [u8; 2] = [0xf9, 0x89];

/// The length of that option with a cookie of 4 bytes, which looks like an IPv4 client.
const FAST_OPEN_LIKE_V4: u8 = 8;

/// Kind and length of TCP's own option of the kind that clients without a port come by (RFC 5482).
const USER_TIMEOUT: (u8, u8) = (28, 4);

/// The address family of an [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An address and port as the option carried them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Which family the option's layout says.
    pub family: Family,
    /// The TCP port, network byte order; 0 where the layout has none.
    pub port: [u8; 2],
    /// The address, network byte order; an IPv4 one as `::ffff:a.b.c.d`.
    pub addr: [u8; 16],
}

/// The first twelve bytes of an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2).
const V4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// `::ffff:a.b.c.d` for `a.b.c.d`, network byte order.
pub const fn v4_mapped(v4: [u8; 4]) -> [u8; 16] {
    // As a number: the compiler would move sixteen bytes one by one.
    (0xffff_0000_0000 | u32::from_be_bytes(v4) as u128).to_be_bytes()
}

/// `a.b.c.d` where `addr` is `::ffff:a.b.c.d`.
pub fn v4_of(addr: &[u8; 16]) -> Option<[u8; 4]> {
    match addr.strip_prefix(&V4_MAPPED)? {
        [a, b, c, d] => Some([*a, *b, *c, *d]),
        _ => None,
    }
}

impl Address {
    const fn v4(port: [u8; 2], addr: [u8; 4]) -> Self {
        Self {
            family: Family::V4,
            port,
            addr: v4_mapped(addr),
        }
    }

    const fn v6(port: [u8; 2], addr: [u8; 16]) -> Self {
        Self {
            family: Family::V6,
            port,
            addr,
        }
    }
}

/// The client, and the option that named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The client's address and port.
    pub addr: Address,
    /// The option's kind on the wire.
    pub kind: u8,
    /// The option's length on the wire.
    pub length: u8,
}

/// What TOA options told of a connection: something at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Toa {
    /// Who connected.
    pub client: Option<Client>,
    /// Where to, before the load balancer sent it here; its port is 0 where the layout has none.
    pub vip: Option<Address>,
    /// The VPC of that place, as on the wire; one of three bytes with a 0 in front.
    pub vpc_id: Option<[u8; 4]>,
}

/// A TOA option, recognised and not taken apart yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried<'a> {
    /// The number of the row that fitted.
    pub row: u8,
    /// That row.
    pub layout: Layout,
    body: &'a [u8],
}

/// An option's body, taken from its front.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    #[inline(always)]
    fn skip(&mut self, bytes: usize) -> Option<&mut Self> {
        self.0 = self.0.get(bytes..)?;
        Some(self)
    }

    /// Takes the version, which stands where others have a port; port 0 stands for none.
    #[inline(always)]
    fn version(&mut self) -> Option<[u8; 2]> {
        self.skip(1)?;
        Some([0; 2])
    }

    #[inline(always)]
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
}

// Not inlined, since the compiler then keeps each byte of an address in a place of its own.
impl Carried<'_> {
    /// The body, if it is as long as the row says: the walk makes no other.
    #[inline(always)]
    fn body(&self) -> Option<Body<'_>> {
        let length = usize::from(self.layout.length);
        (self.body.len().wrapping_add(2) == length).then_some(Body(self.body))
    }

    /// All that it tells.
    #[inline(always)]
    pub fn toa(&self) -> Toa {
        let format = self.layout.format;
        let mut toa = Toa {
            client: self.client(),
            vip: None,
            vpc_id: None,
        };
        if format.has_vip() || format.has_vpc_id() {
            toa.vip = self.vip();
            toa.vpc_id = self.vpc_id();
        }
        toa
    }

    /// The client that it names, if it does.
    #[inline(never)]
    pub fn client(&self) -> Option<Client> {
        use Format::{ClientV4, ClientV4NoPort, ClientV6, ClientV6NoPort};
        use Format::{ClientVipV4, ClientVipVpcV4, ClientVipVpcV6};
        let mut body = self.body()?;
        let (family, port) = match self.layout.format {
            ClientV4 | ClientVipV4 | ClientVipVpcV4 => (Family::V4, body.take()?),
            ClientV6 | ClientVipVpcV6 => (Family::V6, body.take()?),
            ClientV4NoPort => (Family::V4, body.version()?),
            ClientV6NoPort => (Family::V6, body.version()?),
            _ => return None,
        };
        let addr = match family {
            Family::V4 => v4_mapped(body.take()?),
            Family::V6 => body.take()?,
        };
        Some(Client {
            addr: Address {
                family,
                port,
                // As in `v4_mapped`.
                addr: u128::from_ne_bytes(addr).to_ne_bytes(),
            },
            kind: self.layout.kind,
            length: self.layout.length,
        })
    }

    /// The VIP that it names, if it does.
    #[inline(never)]
    pub fn vip(&self) -> Option<Address> {
        let mut body = self.body()?;
        match self.layout.format {
            Format::VipV4 => Some(Address::v4(body.take()?, body.take()?)),
            Format::VipV6 => Some(Address::v6(body.take()?, body.take()?)),
            Format::ClientVipV4 => {
                let body = body.skip(2 + 4 + 2)?;
                Some(Address::v4(body.take()?, body.take()?))
            }
            Format::ClientVipVpcV4 => {
                let vip = body.skip(2 + 4 + 4)?.take()?;
                Some(Address::v4(body.take()?, vip))
            }
            Format::ClientVipVpcV6 => Some(Address::v6([0; 2], body.skip(2 + 16 + 4)?.take()?)),
            _ => None,
        }
    }

    /// The VPC that it names, if it does.
    #[inline(never)]
    pub fn vpc_id(&self) -> Option<[u8; 4]> {
        let mut body = self.body()?;
        match self.layout.format {
            Format::VpcId => body.take(),
            Format::ClientVipVpcV4 => body.skip(2 + 4)?.take(),
            Format::ClientVipVpcV6 => {
                let [a, b, c] = body.skip(2 + 16)?.take()?;
                Some([0, a, b, c])
            }
            _ => None,
        }
    }
}

/// What an option turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// A TOA option.
    Toa(Carried<'a>),
    /// Somebody else's option.
    Foreign,
    /// A kind of the table with a length that none of its rows has.
    WrongLength,
}
