"""Small SDSS files for tests, written by astropy in the layouts of the survey."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

UNIT = '1E-17 erg/cm^2/s/Ang'
PIXELS = 3800
LOGLAM = (35800 + np.arange(PIXELS)) * 1e-4


def flux_of(fiber):
    "A flat spectrum with a line; each fibre is a little brighter than the one before."
    return (
        10 + 0.1 * fiber + 30 * np.exp(-0.5 * ((10**LOGLAM - 7000) / 6) ** 2)
    ).astype('f4')


def table(columns, name=None):
    "Column name -> (TFORM, values) as a binary table."
    made = [
        fits.Column(k, form, array=np.asarray(v)) for k, (form, v) in columns.items()
    ]
    return fits.BinTableHDU.from_columns(made, name=name)


def results(
    fiber=914, plate=7102, mjd=56666, z=0.19, specobjid=None, run2d='v5_10_0', **more
):
    "The one row of a pipeline's results; `more` adds or replaces columns, None leaves one out."
    row = dict(
        PLATE=('J', [plate]),
        MJD=('J', [mjd]),
        FIBERID=('J', [fiber]),
        Z=('E', [z]),
        Z_ERR=('E', [1e-5]),
        ZWARNING=('J', [0]),
        CLASS=('6A', ['GALAXY']),
        SUBCLASS=('21A', ['STARFORMING']),
        PLUG_RA=('D', [146.28]),
        PLUG_DEC=('D', [-0.4]),
        SN_MEDIAN_ALL=('E', [33.4]),
        OBJTYPE=('16A', ['GALAXY']),
        RUN2D=('12A', [run2d]),
        SN_MEDIAN=('5E', [[1, 2, 3, 4, 5]]),
    )
    if specobjid is not None:
        row['SPECOBJID'] = specobjid
    return {k: v for k, v in (row | more).items() if v is not None}


def write_spec(path, change=lambda hdus: None, **row):
    "One spectrum; `change` may damage the HDUs before they are written."
    fiber = row.get('fiber', 914)
    columns = dict(
        flux=('E', flux_of(fiber if 0 <= fiber < 5000 else 0)),
        loglam=('E', LOGLAM.astype('f4')),
        ivar=('E', np.where(np.arange(PIXELS) == 100, 0, 4)),
        and_mask=('J', (np.arange(PIXELS) == 200) * 2**28),
        or_mask=('J', np.zeros(PIXELS)),
        model=('E', flux_of(0)),
    )
    hdus = fits.HDUList(
        [fits.PrimaryHDU(), table(columns, 'COADD'), table(results(**row), 'SPALL')]
    )
    for name, value in dict(
        BUNIT=UNIT, VACUUM=True, PLATEID=7102, MJD=56666, COEFF0=3.5, COEFF1=1e-4
    ).items():
        hdus[0].header[name] = value
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    (change(hdus) or hdus).writeto(path, overwrite=True)
    return path


def write_old(path, fiber=459):
    "One spectrum as DR7 has it."
    image = np.zeros((5, PIXELS), 'f4')
    image[0], image[2] = flux_of(fiber), 0.5
    image[2, :7] = 0
    hdu = fits.PrimaryHDU(image)
    cards = dict(
        PLATEID=750,
        MJD=52235,
        FIBERID=fiber,
        RAOBJ=0.0088,
        DECOBJ=15.88,
        Z=0.0633,
        Z_ERR=1e-4,
        Z_WARNIN=0,
        SPEC_CLN=2,
        COEFF0=3.58,
        COEFF1=1e-4,
        OBJTYPE='GALAXY',
        QUALITY='excellent',
        BUNIT='1.0E-17 erg/cm/s/Ang',
        VACUUM=True,
    )
    for name, value in cards.items():
        hdu.header[name] = value
    hdu.writeto(path, overwrite=True)
    return Path(path)


def write_plate(
    folder,
    below='',
    n=4,
    z=0.19,
    run2d='v5_10_0',
    stated='',
    change=lambda plate, zbest: None,
    gz=(False, False),
    zbest=True,
):
    "A plate of `n` fibres in `folder`, its redshifts in `folder/below`; `stated` is the RUN2D of the latter."
    images = (
        np.array([flux_of(f) for f in range(1, n + 1)]),
        np.full((n, PIXELS), 4, 'f4'),
        np.zeros((n, PIXELS), 'i4'),
    )
    plate = fits.HDUList(
        [fits.PrimaryHDU(images[0]), fits.ImageHDU(images[1]), fits.ImageHDU(images[2])]
    )
    for name, value in dict(
        BUNIT=UNIT, PLATEID=7102, MJD=56666, COEFF0=3.58, COEFF1=1e-4, RUN2D=run2d
    ).items():
        plate[0].header[name] = value
    columns = dict(
        PLATE=('J', [7102] * n),
        MJD=('J', [56666] * n),
        FIBERID=('J', range(1, n + 1)),
        Z=('E', [z] * n),
        ZWARNING=('J', [0] * n),
        CLASS=('6A', ['GALAXY'] * n),
        SUBCLASS=('9A', [''] * n),
    )
    second = fits.HDUList([fits.PrimaryHDU(), table(columns)])
    if stated:
        second[0].header['RUN2D'] = stated
    change(plate, second)
    folder = Path(folder)
    (folder / below).mkdir(parents=True, exist_ok=True)
    path = folder / f'spPlate-7102-56666.fits{".gz" * gz[0]}'
    plate.writeto(path, overwrite=True)
    if zbest:
        second.writeto(
            folder / below / f'spZbest-7102-56666.fits{".gz" * gz[1]}', overwrite=True
        )
    return path


def write_sdssv(path, fiber=217, catalogid=4375786564, **row):
    "One spectrum as SDSS-V has it: a field, and an object of a catalogue."
    whole = dict(
        PLATE=None,
        FIBERID=None,
        FIELD=('J', [15000]),
        CATALOGID=('K', [catalogid]),
        FIBERID_LIST=('8A', [f'{fiber} {fiber + 1}']),
        SPECOBJID=('29A', ['123456780150005914610001']),
        SURVEY=('10A', ['open_fiber']),
        OBJTYPE=('16A', ['science']),
    )
    return write_spec(path, **{**whole, **row})


def write_columns(spectra, folder):
    "The same spectra as .npz, ECSV and, where pyarrow is, Parquet."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wave = spectra.wave[400:3000:2]
    flux, ivar = (x[:, 400:3000:2] for x in (spectra.flux, spectra.ivar))
    columns = dict(flux=flux, ivar=ivar, z=np.asarray(spectra.catalog['z']))
    columns['id'] = np.arange(1, 1 + len(flux))
    paths = [folder / f'mine.{kind}' for kind in ('npz', 'ecsv', 'parquet')]
    np.savez(paths[0], wave=wave, **columns)
    Table(columns, meta=dict(wave=wave.tolist())).write(paths[1], overwrite=True)
    try:
        import pyarrow
        from pyarrow import parquet as file
    except ImportError:
        return paths[:2]
    lists = {k: list(v) if v.ndim > 1 else v for k, v in columns.items()}
    lists['wave'] = [wave] * len(flux)
    file.write_table(pyarrow.table(lists), paths[2])
    return paths
