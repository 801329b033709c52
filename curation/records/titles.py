"""The column titles that `sono` knows, in several languages, and the field of each."""

import re
import unicodedata

# Column names of each field, without a unit; the first name that a table has is used.
# fmt: off
ALIASES: dict[str, list[str]] = {field: names.split() for field, names in {
    "image": (
        "image image_name imagename image_file image_path file filename file_name file_path "
        "path stem"
    ),
    "patient": (
        "patient patient_id patientid patient_num patient_number patient_no pid mrn "
        "medical_record_number subject subject_id patienten_id patientennummer patienten_nr "
        "patientennr pat_nr patnr pat_id"
    ),
    "issuer": "issuer issuer_of_patient_id issuerofpatientid assigning_authority",
    "study": "study study_id studyid exam exam_id examination_id encounter encounter_id visit_id",
    "study_uid": "study_uid study_instance_uid studyinstanceuid",
    "series": "series_uid series_instance_uid seriesinstanceuid",
    "instance": "instance_uid sop_uid sop_instance_uid sopinstanceuid",
    "accession": "accession accession_number accession_no accessionnumber",
    "center": "center centre hospital site institution clinic klinik klinikum krankenhaus",
    "machine": (
        "machine us_machine device scanner ultrasound_machine equipment model device_model "
        "gerat ultraschallgerat"
    ),
    "plane": "plane view standard_plane plane_label scan_plane label class",
    "brain_plane": "brain_plane",
    "region": "region body_region",
    "ga": "ga gestational_age gest_age gestation ga_at_exam",
    "exam_date": (
        "exam_date study_date scan_date examination_date date_of_exam date_of_scan "
        "visit_date date untersuchungsdatum"
    ),
    "lmp": (
        "lmp last_menstrual_period lmp_date last_period letzte_periode letzte_regel "
        "letzte_menstruation"
    ),
    "due": (
        "edd due due_date edc estimated_due_date expected_due_date expected_date_of_delivery "
        "estimated_date_of_delivery entbindungstermin errechneter_termin "
        "errechneter_entbindungstermin"
    ),
    "laterality": "laterality side seite",
    "presentation": "presentation fetal_presentation lage kindslage",
    "findings": "findings finding diagnosis diagnoses befund befunde diagnose diagnosen",
    "structures": "structures structure anatomies anatomy",
    "bmi": "bmi bmi_kg_m2 body_mass_index body_mass_index_kg_m2 maternal_bmi imc",
    "parity": "parity maternal_parity para paritat pariteit paridad parite paridade",
    "bpd": "bpd biparietal_diameter bip",
    "hc": "hc head_circumference ku kopfumfang",
    "ac": "ac abdominal_circumference au abdomenumfang bauchumfang",
    "fl": "fl femur_length fem femurlange",
    "crl": "crl crown_rump_length ssl scheitel_steiss_lange",
    "nt": "nt nuchal_translucency nackentransparenz",
    "spacing": "pixel_size pixel_spacing spacing mm_per_pixel",
    "row_spacing": "row_spacing pixel_spacing_row spacing_y",
    "col_spacing": "col_spacing column_spacing pixel_spacing_col spacing_x",
    "sex": "sex patient_sex patientsex gender patient_gender",
    "name": (
        "name patient_name patientname first_name last_name surname family_name given_name "
        "mother_name nachname vorname familienname geburtsname patientenname nom prenom "
        "nom_de_famille apellido apellidos nombre cognome nome sobrenome achternaam voornaam naam"
    ),
    "birth": (
        "dob date_of_birth birth_date birthdate birthday patient_birth_date patientbirthdate "
        "geburtsdatum geb_datum gebdatum date_de_naissance fecha_de_nacimiento fecha_nacimiento "
        "data_di_nascita data_de_nascimento geboortedatum"
    ),
    "operator": (
        "operator operator_name sonographer physician referring_physician doctor examiner "
        "performed_by reported_by untersucher untersucherin arzt arztin"
    ),
    "contact": (
        "phone phone_number telephone email e_mail address ssn nhs_number insurance_number "
        "national_id telefon telefonnummer handy adresse anschrift strasse versichertennummer "
        "versicherungsnummer telefono direccion indirizzo telefone endereco adres telefoonnummer "
        "codice_fiscale bsn"
    ),
}.items()}
# fmt: on

SEVERAL = ("name", "operator", "contact")  # all columns with these fields are used
_UNIT = re.compile(r"[\s_(\[]+(mm|cm|weeks?|wks?|days?)[\s)\]]*$")


def parse_title(column: str) -> tuple[str, str]:
    """Name and unit of a header: `Head circumference (mm)` is head_circumference in mm.

    Accents are dropped: `Prénom` is prenom.
    """
    apart = unicodedata.normalize("NFKD", column).casefold().strip()
    lowered = "".join(letter for letter in apart if not unicodedata.combining(letter))
    found = _UNIT.search(lowered)
    name, unit = (lowered[: found.start()], found[1]) if found else (lowered, "")
    return re.sub(r"\W+", "_", name).strip("_"), unit


def field_of(name: str, unit: str) -> str:
    """The field of a title, "" for none."""
    field = next((field for field, aliases in ALIASES.items() if name in aliases), "")
    return field if field != "ga" or not unit else "ga_days" if unit.startswith("d") else "ga_weeks"


def guess_columns(titles: list[tuple[str, str]]) -> dict[str, int]:
    """The column index of every field that is known by its title.

    Gestational age may be in two columns, weeks and days.
    """
    names = [name for name, _ in titles]
    found = {
        field: next((names.index(alias) for alias in aliases if alias in names), -1)
        for field, aliases in ALIASES.items()
    }
    columns = {field: index for field, index in found.items() if index >= 0}
    for index, (name, unit) in enumerate(titles):
        if name in ALIASES["ga"] and unit:
            columns.setdefault("ga_days" if unit.startswith("d") else "ga_weeks", index)
            if columns.get("ga") == index:
                del columns["ga"]
    return columns
