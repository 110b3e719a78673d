"""What is known of NVIDIA's GPUs, drivers and CUDA, and of who offers which driver. Data, with sources; no decision.

A row says what a source says or what was measured, never what is likely. Read on 2026-11-23, if no other date stands
there. Sources:

  ids      NVIDIA/open-gpu-kernel-modules, README.md of 610.43.03: "Compatible GPUs"; for GPUs before Turing and
           those it does not list, the PCI ID Project's pci.ids of 2023-04-10; for 2337, 2338 and 20b3 its repository,
           pciutils/pciids at 006181e2
  mig      docs.nvidia.com, MIG User Guide 620: "Supported GPUs", and the first drivers in "Deployment Considerations",
           which are those that can part a GPU. Where nothing else is known of a GPU, none before them is taken for it.
  rtx      docs.omniverse.nvidia.com, "Technical Requirements", Linux, and nvidia-omniverse.github.io/ovrtx, "Driver
           Requirements" (2026-05-21): Blackwell workstation GPUs from R570 (570.169) on, data center ones of R570 none;
           cos.googlesource.com, board-overlays af3ca4ea: RTX PRO 6000 (of servers there) from 575.57.08 on
  modules  docs.nvidia.com, Driver Installation Guide 610: "Kernel Modules" (Maxwell, Pascal, Volta closed only, Turing
           and newer both); NVIDIA's README of 580: "Blackwell and later are only supported by the open kernel modules"
  ends     docs.nvidia.com, "Supported Drivers and CUDA Toolkit Versions" of 615 and 620; of 580 (2025-08) for 570, and
           for 550, which is at its end there; for Kepler the description of Debian's nvidia-tesla-470-kernel-dkms, for
           Maxwell to Volta the NixOS wiki, "NVIDIA" (legacy_580)
  cuda     docs.nvidia.com, CUDA Toolkit release notes 13.3, "CUDA Toolkit and Corresponding Driver Versions", column
           Linux x86_64, the first release of each minor; for 8.0 to 10.2 the same table in the notes of 11.4
"""

from collections.abc import Mapping
from types import MappingProxyType

from bootstrap.gpu.rows import BOTH, ONLY_CLOSED, ONLY_OPEN, Cuda, Flavour, Generation, Product, Route, Source

# --- generations -----------------------------------------------------------------------------------------------

# The first branch is that of the first CUDA version that compiles for the architecture (cuda), for Hopper that of mig;
# for Kepler and Maxwell, which are older, that of our first row. CUDA 12.0 dropped Kepler; 13.0 dropped Maxwell, Pascal
# and Volta (its release notes), although the driver that it wants, 580, drives them.
KEPLER = Generation(
    name="Kepler", first=346, last=470, first_cuda="7.0", last_cuda="11.8", flavours=ONLY_CLOSED
)
MAXWELL = Generation(
    name="Maxwell", first=346, last=580, first_cuda="7.0", last_cuda="12.9", flavours=ONLY_CLOSED
)
PASCAL = Generation(
    name="Pascal", first=367, last=580, first_cuda="8.0", last_cuda="12.9", flavours=ONLY_CLOSED
)
VOLTA = Generation(
    name="Volta", first=384, last=580, first_cuda="9.0", last_cuda="12.9", flavours=ONLY_CLOSED
)
TURING = Generation(name="Turing", first=410, last=None, first_cuda="10.0", last_cuda=None, flavours=BOTH)
AMPERE = Generation(name="Ampere", first=450, last=None, first_cuda="11.0", last_cuda=None, flavours=BOTH)
ADA = Generation(name="Ada", first=520, last=None, first_cuda="11.8", last_cuda=None, flavours=BOTH)
HOPPER = Generation(name="Hopper", first=525, last=None, first_cuda="11.8", last_cuda=None, flavours=BOTH)
BLACKWELL = Generation(
    name="Blackwell", first=570, last=None, first_cuda="12.8", last_cuda=None, flavours=ONLY_OPEN
)

GENERATIONS = (KEPLER, MAXWELL, PASCAL, VOLTA, TURING, AMPERE, ADA, HOPPER, BLACKWELL)

OPEN_BY_DEFAULT = 560
"""From this branch on the open modules are NVIDIA's default and suggestion, before it the closed ones (modules)."""


# --- products --------------------------------------------------------------------------------------------------


def _gpu(
    key: str,
    name: str,
    generation: Generation,
    *ids: str,
    mig: bool | int = False,
    first: int = 0,
    cuda: str = "",
    switched: bool = False,
    host: str = "amd64",
) -> Product:
    return Product(
        key=key,
        name=name,
        generation=generation,
        ids=ids,
        first_mig=(first or generation.first) if mig is True else int(mig),
        first=first or generation.first,
        first_cuda=cuda or generation.first_cuda,
        is_switched=switched,
        host=host,
    )


# What counts is what PCI shows: a K80 or M60 card is two of these, an M10 or A16 card four.
PRODUCTS: tuple[Product, ...] = (
    _gpu("k20", "Tesla K20", KEPLER, "101f", "1022", "1026", "1028"),
    _gpu("k20x", "Tesla K20X", KEPLER, "101e", "1020", "1021"),
    _gpu("k40", "Tesla K40", KEPLER, "1023", "1024", "1027", "1029", "102a", "102e"),
    _gpu("k80", "Tesla K80", KEPLER, "102d"),
    _gpu("m4", "Tesla M4", MAXWELL, "1431"),
    _gpu("m10", "Tesla M10", MAXWELL, "13bd"),
    _gpu("m40", "Tesla M40", MAXWELL, "17fd"),
    _gpu("m60", "Tesla M60", MAXWELL, "13f2"),
    _gpu("p4", "Tesla P4", PASCAL, "1bb3"),
    _gpu("p40", "Tesla P40", PASCAL, "1b38"),
    _gpu("p100-pcie-12gb", "Tesla P100 PCIe 12GB", PASCAL, "15f7"),
    _gpu("p100-pcie", "Tesla P100 PCIe 16GB", PASCAL, "15f8"),
    _gpu("p100-sxm2", "Tesla P100 SXM2 16GB", PASCAL, "15f9"),
    _gpu("v100-pcie-16gb", "Tesla V100 PCIe 16GB", VOLTA, "1db4"),
    _gpu("v100-pcie-32gb", "Tesla V100 PCIe 32GB", VOLTA, "1db6"),
    _gpu("v100s-pcie", "Tesla V100S PCIe 32GB", VOLTA, "1df6"),
    _gpu("v100-sxm2-16gb", "Tesla V100 SXM2 16GB", VOLTA, "1db1", "1df5"),
    _gpu("v100-sxm2-32gb", "Tesla V100 SXM2 32GB", VOLTA, "1db5"),
    _gpu("v100-sxm3", "Tesla V100 SXM3 32GB", VOLTA, "1db8", switched=True),  # DGX-2
    _gpu("t4", "Tesla T4", TURING, "1eb8"),
    _gpu("titan-rtx", "TITAN RTX", TURING, "1e02"),
    _gpu("rtx-2080-ti", "GeForce RTX 2080 Ti", TURING, "1e04", "1e07"),
    _gpu("quadro-rtx-6000-8000", "Quadro RTX 6000 or 8000", TURING, "1e30", "1e78"),  # told apart by subsystem
    _gpu("a2-a16", "A2 or A16", AMPERE, "25b6"),  # as above
    _gpu("a10", "A10", AMPERE, "2236"),
    _gpu("a10g", "A10G", AMPERE, "2237"),
    _gpu("a30", "A30", AMPERE, "20b7", mig=True, first=460),
    _gpu("a40", "A40", AMPERE, "2235"),
    _gpu("a100-pcie-40gb", "A100-PCIE-40GB", AMPERE, "20f1", mig=True),
    _gpu("a100-pcie-80gb", "A100 80GB PCIe", AMPERE, "20b5", mig=True),
    _gpu("a100-sxm4-40gb", "A100-SXM4-40GB", AMPERE, "20b0", mig=True, switched=True),
    _gpu("a100-sxm4-80gb", "A100-SXM4-80GB", AMPERE, "20b2", mig=True, switched=True),
    _gpu("a100-sxm-64gb", "A100-SXM-64GB", AMPERE, "20b3", switched=True),  # not in the table of mig, nor the A800s
    _gpu("a800-pcie-80gb", "A800 80GB PCIe", AMPERE, "20f5"),
    _gpu("a800-sxm4-40gb", "A800-SXM4-40GB", AMPERE, "20bd", switched=True),
    _gpu("a800-sxm4-80gb", "A800-SXM4-80GB", AMPERE, "20f3", switched=True),
    _gpu("rtx-3090", "GeForce RTX 3090", AMPERE, "2204"),
    _gpu("rtx-a5000", "RTX A5000", AMPERE, "2231"),
    _gpu("rtx-a6000", "RTX A6000", AMPERE, "2230"),
    _gpu("l2", "L2", ADA, "27b6"),
    _gpu("l4", "L4", ADA, "27b8"),
    _gpu("l20", "L20", ADA, "26ba"),
    _gpu("l40", "L40", ADA, "26b5"),
    _gpu("l40g", "L40G", ADA, "26b8"),
    _gpu("l40s", "L40S", ADA, "26b9"),
    _gpu("rtx-4090", "GeForce RTX 4090", ADA, "2684"),
    _gpu("rtx-5000-ada", "RTX 5000 Ada Generation", ADA, "26b2"),
    _gpu("rtx-6000-ada", "RTX 6000 Ada Generation", ADA, "26b1"),
    _gpu("h20", "H20", HOPPER, "2329", "232c", mig=True, first=535, switched=True),
    _gpu("h100-nvl", "H100 NVL", HOPPER, "2321", mig=True),
    _gpu("h100-pcie", "H100 PCIe", HOPPER, "2331", mig=True),
    _gpu("h100-sxm", "H100 80GB HBM3", HOPPER, "2330", mig=True, switched=True),
    _gpu("h100-sxm-64gb", "H100 SXM5 64GB", HOPPER, "2337", switched=True),  # of the SXM5s mig has 80GB and 94GB
    _gpu("h100-sxm-94gb", "H100 SXM5 94GB", HOPPER, "2339", mig=True, switched=True),
    _gpu("h100-sxm-96gb", "H100 SXM5 96GB", HOPPER, "2338", switched=True),
    _gpu("h200-nvl", "H200 NVL", HOPPER, "233b", mig=True, first=550),
    _gpu("h200-sxm", "H200", HOPPER, "2335", mig=True, first=550, switched=True),
    _gpu("h800", "H800", HOPPER, "2324", switched=True),  # the H800s are not in the table of mig
    _gpu("h800-nvl", "H800 NVL", HOPPER, "233a"),
    _gpu("h800-pcie", "H800 PCIe", HOPPER, "2322"),
    _gpu("gh200", "GH200", HOPPER, "2342", "2348", mig=True, host="arm64"),
    _gpu("b200", "B200", BLACKWELL, "2901", "2909", mig=True, switched=True),
    _gpu("b300", "B300 SXM6 AC", BLACKWELL, "3182", mig=True, first=580, cuda="12.9", switched=True),
    _gpu("gb200", "GB200", BLACKWELL, "2941", mig=True, host="arm64"),
    _gpu("gb300", "GB300", BLACKWELL, "31c2", "31c3", mig=595, first=580, cuda="12.9", host="arm64"),  # as B300
    _gpu("rtx-5080", "GeForce RTX 5080", BLACKWELL, "2c02"),
    _gpu("rtx-5090", "GeForce RTX 5090", BLACKWELL, "2b85"),
    # Those of workstations start with 570 and can be parted from 575 on; those of servers start with 575 (rtx, mig).
    _gpu("rtx-pro-4500", "RTX PRO 4500 Blackwell", BLACKWELL, "2c31", mig=575),
    _gpu("rtx-pro-4500-server", "RTX PRO 4500 Blackwell Server Edition", BLACKWELL, "2c3a", mig=True, first=575),
    _gpu("rtx-pro-5000", "RTX PRO 5000 Blackwell", BLACKWELL, "2bb3", mig=575),
    _gpu("rtx-pro-6000-server", "RTX PRO 6000 Blackwell Server Edition", BLACKWELL, "2bb5", mig=True, first=575),
    _gpu("rtx-pro-6000", "RTX PRO 6000 Blackwell Workstation Edition", BLACKWELL, "2bb1", "2bb4", mig=575),
)  # fmt: skip

BY_ID: Mapping[str, Product] = MappingProxyType({id_: product for product in PRODUCTS for id_ in product.ids})
BY_KEY: Mapping[str, Product] = MappingProxyType({product.key: product for product in PRODUCTS})

# --- CUDA ------------------------------------------------------------------------------------------------------

# There was no toolkit 12.7. Applications of one major version also start on the oldest driver of that major, without
# what came later and without compiling PTX ("minor version compatibility"): no promise to build a cluster on.
CUDA: tuple[Cuda, ...] = (
    Cuda("7.0", "346.46"),
    Cuda("7.5", "352.31"),
    Cuda("8.0", "367.48"),
    Cuda("9.0", "384.81"),
    Cuda("9.1", "390.46"),
    Cuda("9.2", "396.26"),
    Cuda("10.0", "410.48"),
    Cuda("10.1", "418.39"),
    Cuda("10.2", "440.33"),
    Cuda("11.0", "450.51.05"),
    Cuda("11.1", "455.23"),
    Cuda("11.2", "460.27.03"),
    Cuda("11.3", "465.19.01"),
    Cuda("11.4", "470.42.01"),
    Cuda("11.5", "495.29.05"),
    Cuda("11.6", "510.39.01"),
    Cuda("11.7", "515.43.04"),
    Cuda("11.8", "520.61.05"),
    Cuda("12.0", "525.60.13"),
    Cuda("12.1", "530.30.02"),
    Cuda("12.2", "535.54.03"),
    Cuda("12.3", "545.23.06"),
    Cuda("12.4", "550.54.14"),
    Cuda("12.5", "555.42.02"),
    Cuda("12.6", "560.28.03"),
    Cuda("12.8", "570.26"),
    Cuda("12.9", "575.51.03"),
    Cuda("13.0", "580.65.06"),
    Cuda("13.1", "590.44.01"),
    Cuda("13.2", "595.45.04"),
    Cuda("13.3", "610.43.02"),
)
BY_CUDA: Mapping[str, Cuda] = MappingProxyType({row.version: row for row in CUDA})

# --- who offers which driver -----------------------------------------------------------------------------------

NO_DRIVER: Mapping[str, str] = MappingProxyType(
    {
        # NVIDIA/gpu-operator issue 696 and gpu-driver-container issue 8: asked for, never made.
        "fedora-coreos": "NVIDIA makes no driver for Fedora CoreOS",
    }
)


FLATCAR = "4593"
"""The newest of Flatcar's releases that was looked at."""


def _flatcar(since: str, *branches: int) -> tuple[Source, ...]:
    """Return the sysexts of Flatcar, which are built and signed with each of its releases, in both flavours."""
    return tuple(
        Source(
            family="flatcar",
            since=since,
            branch=branch,
            flavour=flavour,
            route=Route.SYSEXT,
            seen=FLATCAR,
            names=(f"nvidia-drivers-{branch}" + ("-open" if flavour is Flavour.OPEN else ""),),
            built="each release's own",
        )
        for branch in branches
        for flavour in Flavour
    )


def _debian(
    release: str,
    flavour: Flavour,
    version: str,
    suite: str,
    *names: str,
    more: tuple[str, ...] = (),
    **seen: str,
) -> Source:
    """Return what a release of Debian has in contrib and non-free, as its apt says."""
    return Source(
        family="debian",
        since=release,
        only=True,
        branch=int(version.partition(".")[0]),
        flavour=flavour,
        route=Route.PACKAGES,
        names=names,
        more=more,
        suite=suite,
        version=version,
        **seen,
    )


_TOO_FEW = "the open modules of 550.163.01 do not build for Debian 13's kernel (nv-pci.c: pci_resize_resource changed)"

# What keeps the driver loaded, and makes its device files; both work with every branch.
_MORE = ("nvidia-persistenced", "nvidia-modprobe")

SOURCES: tuple[Source, ...] = (
    # flatcar/scripts, build_library/extra_sysexts.sh: at first with 535 and 550, later with 570 too, not with 580
    # (flatcar/Flatcar issue 2039, 2026-03). There are such sysexts since 4344.0.0; since when with 570 is not known,
    # but 4593 has it. Fabric manager is in none: the file's package atoms name the driver alone.
    *_flatcar("4344.0.0", 535, 550),
    *_flatcar("4593.0.0", 570),
    # flatcar.org, "Using NVIDIA GPUs": nvidia.service is on every platform since 3637.0.0 and takes the version from
    # /etc/flatcar/nvidia-metadata. It compiles the closed modules only (issue 2039). 535.274.02 is what 4593.2.0 names.
    Source(
        family="flatcar",
        since="3637.0.0",
        branch=535,
        flavour=Flavour.CLOSED,
        route=Route.SERVICE,
        seen=FLATCAR,
        version="535.274.02",
    ),
    # `apt-cache madison` with contrib, non-free and non-free-firmware, 2026-11-23. Debian 13 has no 470, no open
    # modules of 535, and no fabric manager. What builds was tried here. Debian 12 has 470 and 535, and is no row: the
    # driver is in the image, and images of it are not built (SUITES of bootstrap/image/recipe.py).
    _debian(
        "13", Flavour.CLOSED, "535.274.02", "trixie/non-free",
        "nvidia-tesla-535-kernel-dkms", "nvidia-tesla-535-smi", "libnvidia-tesla-535-cuda1",
        more=("libnvidia-tesla-535-cfg1", "firmware-nvidia-tesla-535-gsp", *_MORE),
        built="6.12.107",
    ),
    _debian(
        "13", Flavour.CLOSED, "550.163.01", "trixie/non-free",
        "nvidia-kernel-dkms", "nvidia-smi", "libcuda1",
        more=("libnvidia-cfg1", "firmware-nvidia-gsp", *_MORE),
        built="6.12.117",
    ),
    _debian(
        "13", Flavour.OPEN, "550.163.01", "trixie/contrib,non-free",
        "nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1",
        more=("libnvidia-cfg1", "firmware-nvidia-gsp", *_MORE),
        broken=_TOO_FEW,
    ),
)  # fmt: skip

ENDS: Mapping[int, str] = MappingProxyType(
    {
        535: "2026-06",
        550: "2025-08 or before",
        570: "2026-02",
        580: "2028-06",
        595: "2027-03",
        610: "2026-08",
    }
)
"""The month in which NVIDIA's updates of a branch end; each branch that somebody offers has one (ends)."""
